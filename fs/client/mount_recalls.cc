// Mount: what the master recalls, and what is lost with a session.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "fs/client/mount.h"

namespace cairn {

namespace {
// The kernel may be unable to forget everything while requests wait, and they wait for this.
constexpr Duration kForgetWait = std::chrono::seconds(1);
// Of files that were read and closed: the programs of a next `git status` open the same few again.
constexpr size_t kParkedMax = 256;
}  // namespace

void Mount::drop_known(const Recall& recall) {
  switch (recall.kind) {
    case RecallKind::kName:
      return names_.forget_name(recall.inode, recall.name);
    case RecallKind::kAttributes:
      names_.forget_listing(recall.inode);  // of a directory that moved: ".." is another one
      return names_.forget_attributes(recall.inode);
    case RecallKind::kContent:
    case RecallKind::kWriter: {
      names_.forget(recall.inode);
      Inode* state = find(recall.inode);
      if (state && state->reader) state->reader->forget_layout();
      return;
    }
    case RecallKind::kReader:
    case RecallKind::kGiveBack:
    case RecallKind::kLocksBroken:
      return;
  }
}

Task<bool> Mount::handle_recall(Recall recall) {
  if (recall.kind == RecallKind::kLocksBroken) {
    std::set<HandleId> handles = co_await locks_.broken(recall.inode);
    mark_locks_lost(handles);
    co_return true;
  }
  drop_known(recall);
  bool lowers = recall.kind == RecallKind::kReader || recall.kind == RecallKind::kWriter;
  if (lowers) co_await locks_.hand_over(recall.inode);
  bool goes = recall.kind == RecallKind::kContent || recall.kind == RecallKind::kWriter;
  if (Inode* state = find(recall.inode); state && recall.kind != RecallKind::kName) {
    state->here_only = false;
    if (recall.kind != RecallKind::kReader) unpark(recall.inode);
    ++state->operations;
    state->hold_reads = false;
    if (state->writer && goes) co_await state->writer->finish_batch();
    if (state->writer) co_await state->writer->give_up_lease(goes);
    --state->operations;
    if (goes) state->pages_given = false;  // a read that begins from here on says so again
  }
  if (caches_) {
    if (recall.kind == RecallKind::kName) co_await caches_->forget_name(recall.inode, recall.name);
    if (recall.kind == RecallKind::kAttributes) co_await caches_->forget_attributes(recall.inode);
    if (goes) co_await caches_->forget_pages(recall.inode);
  }
  if (!goes) co_return true;
  co_await write_stored(recall.inode);
  drop_known(recall);  // what was committed meanwhile, and goes with the lease
  co_return true;
}

// The kernel has let go of the inode's pages, and has written those that processes had stored in. Until the recall is
// answered it gets no new ones: they would be old.
Task<void> Mount::write_stored(InodeId inode) {
  Inode* state = find(inode);
  if (!state || !state->writer) co_return;
  ++state->operations;
  state->hold_reads = true;
  while (state->writer->writing_pages() || state->writer->dirty()) {
    if (state->writer->writing_pages()) (void)co_await leases_.wait_news(kNever);
    co_await state->writer->give_up_lease(true);
  }
  --state->operations;
}

// The lease is about to be given back.
Task<void> Mount::forget_lease(InodeId inode) {
  co_await locks_.hand_over(inode);
  names_.forget(inode);
  unpark(inode);
  Inode* state = find(inode);
  if (state) state->here_only = false;
  if (state && state->reader) state->reader->forget_layout();
  bool pages = state && std::exchange(state->pages_given, false);
  if (pages && caches_) co_await caches_->forget_pages(inode);
}

void Mount::lower_quiet() {
  for (auto& [id, inode] : inodes_) {
    if (!inode->writer || !inode->writer->may_lower() || locks_.keeps_lease(id)) continue;
    inode->here_only = false;
    inode->writer->lower_lease();
  }
  for (InodeId inode : locks_.forget_unused()) {
    Inode* state = find(inode);
    if (state) state->here_only = state->here_only && state->writer;
    if (!state || !state->writer) leases_.lower(inode);
  }
}

// ---------------------------------------------------------------- files that the master believes to be open

void Mount::park(InodeId inode) {
  Inode* state = find(inode);
  if (!state || std::exchange(state->parked, true)) return;
  parked_.push_back(inode);
  if (parked_.size() > kParkedMax) unpark(parked_.front());
}

void Mount::unpark(InodeId inode) {
  Inode* state = find(inode);
  if (!state || !std::exchange(state->parked, false)) return;
  std::erase(parked_, inode);
  state->told_open = false;
  closed_.insert(inode);
}

// ---------------------------------------------------------------- the session has ended

Task<void> Mount::session_lost() {
  leases_.lost();
  mark_locks_lost(locks_.lost());
  names_.clear();
  grants_.forget_all();
  parked_.clear();
  closed_.clear();
  for (auto& [id, inode] : inodes_) {
    if (inode->writer) inode->writer->lose(Error(ErrorCode::kIo, "the session with the master has ended"));
    if (inode->reader) inode->reader->forget_layout();
    inode->told_open = inode->parked = inode->pages_given = inode->here_only = false;
  }
  tasks_.spawn(open_again());
  if (!caches_) co_return;
  ++forgetting_;
  // Nothing is answered before the kernel has forgotten what it knew, so that nothing old is seen after anything new.
  auto done = std::make_shared<bool>(false);  // shared with the task that waits for the kernel
  TimePoint until = world_.clock().now() + kForgetWait;
  tasks_.spawn(forget_in_kernel(done));
  while (!*done && world_.clock().now() < until && !tasks_.stop_requested())
    (void)co_await kernel_forgot_.wait_until(world_.clock(), until);
}

Task<void> Mount::forget_in_kernel(std::shared_ptr<bool> done) {
  co_await caches_->forget_everything();
  --forgetting_;
  *done = true;
  kernel_forgot_.notify_all();
}

// What was open under the session before is open under this one, if it is still there.
Task<void> Mount::open_again() {
  std::vector<InodeId> open;
  for (auto& [id, inode] : inodes_) {
    if (inode->opens > 0) open.push_back(id);
  }
  for (const auto& [id, times] : opening_)
    open.push_back(id);
  std::ranges::sort(open);
  open.erase(std::ranges::unique(open).begin(), open.end());
  for (InodeId id : open) {
    OpenRequest request;
    request.inode = id;
    auto reply = co_await master_.ask(request);
    Inode* state = find(id);
    if (!reply || !state) continue;
    state->told_open = true;
    hear(reply->attributes, reply->lease);
    co_await learn_and_forget_pages(reply->attributes);
    state = find(id);
    if (state && state->opens == 0) tell_closed_soon(id);
  }
}

}  // namespace cairn
