#include "fs/client/mount.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/version.h"

namespace cairn {

namespace {
constexpr Duration kClosedPeriod = std::chrono::milliseconds(200);
constexpr Duration kIdlePeriod = std::chrono::milliseconds(500);
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
      kernel_forgot_(world.executor()),
      master_(world, options_),
      leases_(world, master_, options_.cache_entries, options_.request_timeout),
      locks_(world, master_, leases_, options_.request_timeout),
      servers_(world, Hello{.cluster = {}, .program = options_.program}),
      grants_(world, master_, servers_),
      memory_(world.executor(), options_.write_buffer_bytes),
      shared_{.world = world,
              .master = master_,
              .servers = servers_,
              .grants = grants_,
              .leases = leases_,
              .memory = memory_,
              .request_timeout = options_.request_timeout,
              .learned =
                  [this](const Attributes& attributes, const Lease& lease, bool ours) {
                    // What the one writer commits is the newest there is.
                    if (ours && leases_.exclusive(attributes.inode)) {
                      names_.heard(attributes);
                    } else {
                      hear(attributes, lease);
                    }
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

// Recalls wait in writers, and writers for recalls.
Mount::~Mount() {
  leases_.abandon();
  locks_.abandon();
}

Task<Result<void>> Mount::start() {
  master_.set_open_inodes([this] {
    std::vector<InodeId> open;
    for (auto& [id, inode] : inodes_) {
      if (inode->opens > 0 || inode->told_open) open.push_back(id);
    }
    for (const auto& [id, times] : opening_)
      open.push_back(id);
    std::ranges::sort(open);
    open.erase(std::ranges::unique(open).begin(), open.end());
    return open;
  });
  master_.set_leases([this](uint64_t term) { return leases_.held(term); },
                     [this](uint64_t term) { leases_.told(term); });
  master_.before_resuming([this] { return leases_.catch_up(); });
  master_.on_session_lost([this] { return session_lost(); });
  Result<void> opened = co_await master_.open_session();
  if (!opened) co_return opened;
  leases_.set_busy([this](InodeId inode) {
    Inode* state = find(inode);
    if (locks_.keeps_lease(inode)) return true;
    return state && (state->operations > 0 || (state->writer && !state->writer->idle()));
  });
  locks_.set_want_lease([this](InodeId inode) { tasks_.spawn(take_lease(inode)); });
  locks_.on_lost([this](const std::set<HandleId>& handles) { mark_locks_lost(handles); });
  leases_.start([this](Recall recall) { return handle_recall(std::move(recall)); },
                [this](InodeId inode) { return forget_lease(inode); });
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

void Mount::hear(const Attributes& attributes, const Lease& lease) {
  if (!attributes.inode) return;
  if (leases_.granted(attributes.inode, lease)) {
    names_.heard(attributes);
  } else {
    names_.heard_of(attributes);
  }
}

const Attributes* Mount::known(InodeId inode) {
  if (changing(inode) || !leases_.usable(inode)) return nullptr;
  const Attributes* attributes = names_.attributes(inode);
  if (attributes) leases_.used(inode);
  return attributes;
}

bool Mount::learn(const Attributes& attributes, bool ours) {
  Inode* state = find(attributes.inode);
  if (!state || attributes.change < state->attributes.change) return false;
  state->attributes = attributes;
  if (!ours && state->writer) state->writer->moved_elsewhere(attributes);
  if (attributes.data_change == state->pages_of) return false;
  state->pages_of = attributes.data_change;
  if (state->reader) state->reader->forget_layout();  // own writes bring chunks too, and close lets go of their writers
  return !ours && state->pages_given;
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
    lower_quiet();
    std::vector<InodeId> idle;
    for (auto& [id, inode] : inodes_) {
      bool unused = inode->opens == 0 && inode->operations == 0 && !inode->parked;
      if (unused && (!inode->writer || inode->writer->idle()) && (inode->writer || inode->reader || inode->forgotten))
        idle.push_back(id);
    }
    std::ranges::sort(idle);
    for (InodeId id : idle) {
      Inode* state = find(id);
      if (!state || state->opens > 0 || state->operations > 0 || state->parked) continue;
      if (state->writer && !state->writer->idle()) continue;
      std::unique_ptr<FileWriter> writer = std::move(state->writer);
      state->reader.reset();
      if (state->forgotten) {
        unpark(id);
        inodes_.erase(id);
      }
      if (writer) co_await writer->stop();
    }
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
    if (!state || !state->writer || !state->writer->dirty()) continue;
    if (world_.clock().now() >= deadline)
      co_return Error(ErrorCode::kIo, std::to_string(unsynced().size()) + " files are not on disk yet");
    ++state->operations;
    Result<void> synced = co_await state->writer->sync(false);
    --state->operations;
    if (!synced && result) result = synced;
  }
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
  // Dirty data is worth waiting for a master or a server that comes back.
  while ((!synced || !unsynced().empty()) && world_.clock().now() < deadline) {
    Result<void> slept = co_await tasks_.sleep_for(kIdlePeriod);
    if (!slept) break;
    synced = co_await sync_all(deadline);
    if (unsynced().empty()) break;
  }
  co_await tasks_.stop();
  // A recall that is being answered may still change the list.
  std::vector<InodeId> ids;
  for (const auto& [id, inode] : inodes_)
    ids.push_back(id);
  for (InodeId id : ids) {
    auto found = inodes_.find(id);
    if (found != inodes_.end() && found->second->writer) co_await found->second->writer->stop();
  }
  co_await grants_.stop();
  leases_.stop_asking();
  co_await master_.close(deadline);
  co_await locks_.stop();
  co_await leases_.stop();
  co_await servers_.stop();
  co_return synced;
}

}  // namespace cairn
