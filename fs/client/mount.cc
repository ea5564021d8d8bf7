#include "fs/client/mount.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/version.h"

namespace cairn {

namespace {
// Pages that the kernel holds of open files are checked this often: with the round trip well within a second.
constexpr Duration kRefreshPeriod = std::chrono::milliseconds(700);
constexpr Duration kClosedPeriod = std::chrono::milliseconds(200);
constexpr Duration kIdlePeriod = std::chrono::milliseconds(500);
constexpr size_t kRefreshMax = 1024;  // inodes in one request
}  // namespace

Task<Result<std::unique_ptr<FileSystem>>> FileSystem::connect(World& world, ClientOptions options) {
  auto mount = std::make_unique<Mount>(world, std::move(options));
  Result<void> started = co_await mount->start();
  if (!started) {
    Result<void> closed = co_await mount->close(world.clock().now());
    if (!closed) log_debug("client.close_failed", "error={}", quoted(closed.error().message()));
    co_return started.error();
  }
  std::unique_ptr<FileSystem> file_system = std::move(mount);
  co_return file_system;
}

Mount::Mount(World& world, ClientOptions options)
    : world_(world),
      options_(std::move(options)),
      master_(world, options_),
      servers_(world, Hello{.cluster = {}, .program = options_.program}),
      grants_(world, master_, servers_),
      memory_(world.executor(), options_.write_buffer_bytes),
      shared_{.world = world,
              .master = master_,
              .servers = servers_,
              .grants = grants_,
              .memory = memory_,
              .request_timeout = options_.request_timeout,
              .learned =
                  [this](const Attributes& attributes, bool ours) {
                    if (learn(attributes, ours) && caches_) tasks_.spawn(caches_->forget_pages(attributes.inode));
                  },
              .gave_up =
                  [this](InodeId inode) {
                    Inode* state = find(inode);
                    if (state && state->reader) state->reader->forget_layout();
                    if (caches_) tasks_.spawn(caches_->forget_pages(inode));
                  }},
      names_(options_.cache_entries),
      told_closed_(world.executor()),
      tasks_(world.executor(), world.clock()) {}

Mount::~Mount() = default;

Task<Result<void>> Mount::start() {
  master_.set_open_inodes([this] {
    std::vector<InodeId> open;
    for (auto& [id, inode] : inodes_) {
      if (inode->opens > 0) open.push_back(id);
    }
    for (const auto& [id, times] : opening_)
      open.push_back(id);
    std::ranges::sort(open);
    open.erase(std::ranges::unique(open).begin(), open.end());
    return open;
  });
  master_.on_session_lost([this] { session_lost(); });
  Result<void> opened = co_await master_.open_session();
  if (!opened) co_return opened;
  tasks_.spawn(keep_fresh());
  tasks_.spawn(tell_closed());
  tasks_.spawn(drop_idle());
  co_return opened;
}

// ---------------------------------------------------------------- what is known of inodes

Mount::Inode* Mount::find(InodeId inode) {
  auto found = inodes_.find(inode);
  return found == inodes_.end() ? nullptr : found->second.get();
}

Mount::Inode& Mount::inode_state(const Attributes& attributes) {
  std::unique_ptr<Inode>& state = inodes_[attributes.inode];
  if (!state) {
    state = std::make_unique<Inode>();
    state->attributes = attributes;
    state->pages_of = attributes.data_change;
  }
  return *state;
}

FileWriter& Mount::writer_of(Inode& inode) {
  if (!inode.writer) inode.writer = std::make_unique<FileWriter>(shared_, inode.attributes);
  return *inode.writer;
}

bool Mount::learn(const Attributes& attributes, bool ours) {
  names_.heard(attributes, {});
  Inode* state = find(attributes.inode);
  if (!state || attributes.change < state->attributes.change) return false;
  state->attributes = attributes;
  if (!ours && state->writer) state->writer->moved_elsewhere(attributes);
  if (attributes.data_change == state->pages_of) return false;
  state->pages_of = attributes.data_change;
  if (state->reader) state->reader->forget_layout();  // own writes bring chunks too, and close lets go of their writers
  return !ours;
}

Task<void> Mount::learn_and_forget_pages(Attributes attributes) {
  bool moved = learn(attributes, false);
  if (moved && caches_) co_await caches_->forget_pages(attributes.inode);
}

Attributes Mount::seen_here(Attributes attributes) const {
  auto found = inodes_.find(attributes.inode);
  if (found == inodes_.end()) return attributes;
  // The answer to a question may come after that to a later commit: what is no longer dirty would be missing in it.
  if (attributes.change < found->second->attributes.change) attributes = found->second->attributes;
  if (found->second->writer) found->second->writer->overlay(attributes);
  return attributes;
}

// ---------------------------------------------------------------- in the background

Task<void> Mount::keep_fresh() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(kRefreshPeriod);
    if (!slept) co_return;
    std::vector<InodeId> wanted;
    for (auto& [id, inode] : inodes_) {
      bool ours = inode->writer && inode->writer->dirty();
      if (inode->opens > 0 && inode->pages_given && !ours) wanted.push_back(id);
    }
    std::ranges::sort(wanted);
    for (size_t begin = 0; begin < wanted.size(); begin += kRefreshMax) {
      RefreshRequest request;
      request.inodes.assign(wanted.begin() + static_cast<ptrdiff_t>(begin),
                            wanted.begin() + static_cast<ptrdiff_t>(std::min(begin + kRefreshMax, wanted.size())));
      auto reply = co_await master_.ask(std::move(request));
      if (!reply) break;
      for (const Attributes& attributes : reply->attributes) {
        if (attributes.inode) co_await learn_and_forget_pages(attributes);
      }
    }
  }
}

Task<void> Mount::tell_closed() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(kClosedPeriod);
    for (InodeId inode : closed_) {
      if (!opening_.contains(inode)) telling_closed_.insert(inode);
    }
    if (telling_closed_.empty()) {
      if (!slept) co_return;
      continue;
    }
    CloseRequest request;
    request.inodes.assign(telling_closed_.begin(), telling_closed_.end());
    for (InodeId inode : request.inodes)
      closed_.erase(inode);
    auto reply = co_await master_.ask_until(std::move(request), world_.clock().now() + kMasterAttempt);
    for (InodeId inode : std::exchange(telling_closed_, {})) {
      Inode* state = find(inode);
      if (!reply && (!state || state->opens == 0)) closed_.insert(inode);
    }
    told_closed_.notify_all();
    if (!slept) co_return;
  }
}

Task<void> Mount::drop_idle() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(kIdlePeriod);
    if (!slept) co_return;
    std::vector<InodeId> idle;
    for (auto& [id, inode] : inodes_) {
      bool unused = inode->opens == 0 && inode->operations == 0;
      if (unused && (!inode->writer || inode->writer->idle()) && (inode->writer || inode->reader || inode->forgotten))
        idle.push_back(id);
    }
    std::ranges::sort(idle);
    for (InodeId id : idle) {
      Inode* state = find(id);
      if (!state || state->opens > 0 || state->operations > 0) continue;
      if (state->writer && !state->writer->idle()) continue;
      std::unique_ptr<FileWriter> writer = std::move(state->writer);
      state->reader.reset();
      if (state->forgotten) inodes_.erase(id);
      if (writer) co_await writer->stop();
    }
  }
}

void Mount::session_lost() {
  names_.clear();
  grants_.forget_all();
  for (auto& [id, inode] : inodes_) {
    if (inode->writer) inode->writer->lose(Error(ErrorCode::kIo, "the session with the master has ended"));
    if (inode->reader) inode->reader->forget_layout();
  }
}

// ---------------------------------------------------------------- the end

Task<Result<void>> Mount::sync_all(TimePoint deadline) {
  std::vector<InodeId> dirty;
  for (auto& [id, inode] : inodes_) {
    if (inode->writer && inode->writer->dirty()) dirty.push_back(id);
  }
  std::ranges::sort(dirty);
  Result<void> result;
  for (InodeId id : dirty) {
    Inode* state = find(id);
    if (!state || !state->writer) continue;
    ++state->operations;
    Result<void> synced = co_await state->writer->sync(false);
    --state->operations;
    if (!synced && result) result = synced;
    if (world_.clock().now() >= deadline) break;
  }
  if (result && !unsynced().empty())
    result = Error(ErrorCode::kIo, std::to_string(unsynced().size()) + " files are not on disk yet");
  co_return result;
}

std::vector<Address> Mount::masters() const {
  return master_.masters();
}

std::vector<FileSystem::Unsynced> Mount::unsynced() const {
  std::vector<Unsynced> out;
  for (auto& [id, inode] : inodes_) {
    if (inode->writer && inode->writer->dirty()) out.push_back({id, inode->writer->unsynced_bytes()});
  }
  std::ranges::sort(out, {}, &Unsynced::inode);
  return out;
}

Task<Result<void>> Mount::close(TimePoint deadline) {
  Result<void> synced = co_await sync_all(deadline);
  while (!synced &&
         world_.clock().now() < deadline) {  // dirty data is worth waiting for a master or a server that comes back
    Result<void> slept = co_await tasks_.sleep_for(kIdlePeriod);
    if (!slept) break;
    synced = co_await sync_all(deadline);
    if (unsynced().empty()) break;
  }
  co_await tasks_.stop();
  for (auto& [id, inode] : inodes_) {
    if (inode->writer) co_await inode->writer->stop();
  }
  co_await grants_.stop();
  co_await master_.close(deadline);
  co_await servers_.stop();
  co_return synced;
}

}  // namespace cairn
