#define FUSE_USE_VERSION 314

#include "fs/fuse/fuse_ops.h"

#include <cerrno>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "fs/fuse/caller_state.h"

namespace cairn {

namespace {

// The kernel tells of the first signal only, and not whether it kills: so the callers are looked at until they have
// their answer.
constexpr Duration kLookAtCallers = std::chrono::milliseconds(50);
// A caller that would catch the signal is let go only from what a healthy cluster never takes, or it would see an EINTR
// that no local disk gives.
constexpr Duration kStopSignalsAfter = std::chrono::seconds(5);

bool must_be_let_go(const Reply& reply, TimePoint now) {
  switch (caller_state(reply.caller())) {
    case CallerState::kKilled:
      return true;
    case CallerState::kAskedToStop:
      return now - reply.started() >= kStopSignalsAfter;
    case CallerState::kWaits:
      return false;
  }
  return false;
}

const char* operation_name(uint32_t opcode) {
  switch (opcode) {
    case FUSE_LOOKUP:
      return "lookup";
    case FUSE_GETATTR:
      return "getattr";
    case FUSE_SETATTR:
      return "setattr";
    case FUSE_READLINK:
      return "readlink";
    case FUSE_SYMLINK:
      return "symlink";
    case FUSE_MKNOD:
      return "mknod";
    case FUSE_MKDIR:
      return "mkdir";
    case FUSE_UNLINK:
      return "unlink";
    case FUSE_RMDIR:
      return "rmdir";
    case FUSE_RENAME:
      return "rename";
    case FUSE_RENAME2:
      return "rename";
    case FUSE_LINK:
      return "link";
    case FUSE_OPEN:
      return "open";
    case FUSE_READ:
      return "read";
    case FUSE_WRITE:
      return "write";
    case FUSE_STATFS:
      return "statfs";
    case FUSE_RELEASE:
      return "release";
    case FUSE_FSYNC:
      return "fsync";
    case FUSE_SETXATTR:
      return "setxattr";
    case FUSE_GETXATTR:
      return "getxattr";
    case FUSE_LISTXATTR:
      return "listxattr";
    case FUSE_REMOVEXATTR:
      return "removexattr";
    case FUSE_FLUSH:
      return "flush";
    case FUSE_OPENDIR:
      return "opendir";
    case FUSE_READDIR:
      return "readdir";
    case FUSE_RELEASEDIR:
      return "releasedir";
    case FUSE_FSYNCDIR:
      return "fsyncdir";
    case FUSE_CREATE:
      return "create";
    case FUSE_READDIRPLUS:
      return "readdirplus";
    case FUSE_GETLK:
      return "getlk";
    case FUSE_SETLK:
      return "setlk";
    case FUSE_SETLKW:
      return "setlkw";
    case FUSE_FORGET:
      return "forget";
    case FUSE_BATCH_FORGET:
      return "forget";
    default:
      return "other";
  }
}

}  // namespace

FuseOps::FuseOps(World& world, FileSystem& file_system, KernelChannel& channel, Notifier& notifier, KernelState& state,
                 uint32_t max_background)
    : world_(world),
      file_system_(file_system),
      channel_(channel),
      notifier_(notifier),
      state_(state),
      inodes_(state.inodes),
      directories_(state.directories),
      max_background_(max_background),
      requests_(world.metrics().gauge("cairn_fuse_requests_waiting", "requests of the kernel without an answer yet")),
      known_(world.metrics().gauge("cairn_fuse_inodes_known", "inodes that the kernel may refer to")),
      tasks_(world.executor(), world.clock()) {
  gate_.when_interrupted([this] {
    if (watching_ || tasks_.stop_requested()) return;
    watching_ = true;
    tasks_.spawn(watch_interrupted());
  });
}

void FuseOps::collect() {
  requests_.set(static_cast<double>(gate_.requests()));
  known_.set(static_cast<double>(inodes_.size()));
}

void FuseOps::initialise(fuse_conn_info* connection) {
  // No writeback cache: with it a mount could not honour a recall in bounded time (docs/consistency.md). Pages go when
  // we say so, not after each own write (EXPLICIT instead of AUTO). What a symlink says never changes.
  constexpr unsigned kWanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_ATOMIC_O_TRUNC |
                               FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS |
                               FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS |
                               FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;
  connection->want = kWanted & connection->capable;
  // Such a kernel would lose the clearing of set-id bits by an open that truncates.
  if (!channel_.kills_privileges()) connection->want &= ~FUSE_CAP_ATOMIC_O_TRUNC;
  connection->max_write = kFuseMaxIoBytes;
  connection->max_read = kFuseMaxIoBytes;
  connection->max_background = max_background_;
  connection->congestion_threshold = max_background_ / 4 * 3;
  connection->time_gran = 1;
}

Reply FuseOps::reply_to(fuse_req* request, uint64_t bytes) {
  uint32_t opcode = channel_.header().opcode;
  Histogram*& seconds = seconds_[std::min<size_t>(opcode, seconds_.size() - 1)];
  if (!seconds) {
    seconds = &world_.metrics().histogram("cairn_fuse_request_seconds", "from reading a request to its answer",
                                          latency_bounds_seconds(), {{"op", operation_name(opcode)}});
  }
  return Reply(request, gate_, world_.clock(), seconds, bytes);
}

Task<void> FuseOps::watch_interrupted() {
  while (!gate_.interrupted().empty()) {
    // Most are answered before anybody needs to look.
    Result<void> slept = co_await tasks_.sleep_for(kLookAtCallers);
    if (!slept) break;
    std::vector<Reply*> let_go;
    for (Reply* reply : gate_.interrupted()) {
      if (must_be_let_go(*reply, world_.clock().now())) let_go.push_back(reply);
    }
    for (Reply* reply : let_go)
      reply->give_up();
  }
  watching_ = false;
}

Duration FuseOps::attribute_time(InodeId inode, Duration allowed) {
  Duration time = state_.times.of_attributes(inode, allowed);
  if (time > Duration::zero()) {
    inodes_.attributes_given(inode, world_.clock().now() + time + ReplyTimes::kTakenWithin);
  }
  return time;
}

EntryTimes FuseOps::times_of(InodeId directory, InodeId inode, Duration name, Duration attributes) {
  return {.name = state_.times.of_name(directory, name), .attributes = attribute_time(inode, attributes)};
}

void FuseOps::give_entry(Reply& reply, InodeId directory, const Result<Entry>& entry) {
  if (!entry) {
    reply.error(entry.error());
    return;
  }
  InodeId inode = entry->attributes.inode;
  if (!inode) {
    // The kernel is never told that a name is not there for some time: then a new name needs no notification.
    reply.error(ENOENT);
    return;
  }
  // Counted first: a notification that starts now must know that the kernel will hold the inode.
  inodes_.looked_up(entry->attributes);
  EntryTimes times = times_of(directory, inode, entry->name_valid_for, entry->valid_for);
  Attributes attributes = with_known_size(entry->attributes, times.attributes);
  inodes_.size_told(inode, attributes.size);
  bool wanted = reply.entry(attributes, times);
  if (!wanted) forget_inode(inode, 1);
}

// What comes with a name waits for no writer. Without a lease it may be older than what a READ has brought, or brings
// at this moment: the kernel would make zeros of what lies beyond the older end, and keep them when the file is as long
// again for it. So it stays with the size that it has; it asks before it goes by the attributes (their time is 0).
Attributes FuseOps::with_known_size(Attributes attributes, Duration valid_for) const {
  std::optional<uint64_t> size = inodes_.size(attributes.inode);
  bool keep = valid_for <= Duration::zero() && attributes.type == FileType::kRegular;
  if (keep && size) attributes.size = *size;
  return attributes;
}

void FuseOps::give_attributes(Reply& reply, const AttributesView& view) {
  InodeId inode = view.attributes.inode;
  inodes_.seen(view.attributes);
  inodes_.size_told(inode, view.attributes.size);
  reply.attributes({.attributes = view.attributes, .valid_for = attribute_time(inode, view.valid_for)});
}

void FuseOps::forget_inode(InodeId inode, uint64_t count) {
  if (inodes_.forget(inode, count)) file_system_.forget(inode);
}

Task<Result<void>> FuseOps::clear_set_id(InodeId inode) {
  if (!inodes_.has_set_id(inode)) co_return Result<void>();
  FileSystem::Changes changes;
  changes.clear_set_id = true;
  Result<AttributesView> changed = co_await file_system_.set_attributes(inode, changes);
  inodes_.changed(inode, world_.clock().now());
  if (!changed) co_return changed.error();
  inodes_.seen(changed->attributes);
  co_return Result<void>();
}

}  // namespace cairn
