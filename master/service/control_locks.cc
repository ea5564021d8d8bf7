// ControlService: who holds what up: locks, leases, and what is under way.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "master/service/control_service.h"

namespace cairn {

namespace {
constexpr size_t kLocksMax = 4096;  // in one answer
constexpr uint32_t kWritingChunksMax = 64;
// `cairn why` shows what there is, whoever does not answer.
constexpr uint32_t kLayoutMax = 4096;

uint64_t ms(Duration duration) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}
}  // namespace

Task<Result<void>> ControlService::gather_locks(InodeId inode, TimePoint deadline) {
  Result<void> reclaimed = co_await sessions_.wait_reclaimed(deadline);
  if (!reclaimed) co_return reclaimed;
  Result<void> gathered = co_await recalls_.wait_written(inode, SessionId(), deadline);
  co_return gathered;
}

std::vector<LockInfo> ControlService::locks_of(InodeId inode) const {
  std::vector<LockInfo> all;
  InodeLocks locks = core_.machine().locks(inode);
  for (const FileLock& lock : locks.all())
    all.push_back({.inode = inode, .lock = lock, .waits = false});
  for (const FileLock& lock : locks_.waiting(inode))
    all.push_back({.inode = inode, .lock = lock, .waits = true});
  return all;
}

std::vector<SessionName> ControlService::names_of(const std::set<SessionId>& sessions) const {
  std::vector<SessionName> names;
  for (SessionId id : sessions) {
    Result<SessionRecord> session = core_.machine().session(id);
    if (session) names.push_back({.session = id, .host = session->host, .mountpoint = session->mountpoint});
  }
  return names;
}

Task<Result<ListLocksReply>> ControlService::list_locks(ListLocksRequest request, RpcRequest rpc) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  std::vector<InodeId> inodes{request.inode};
  if (request.inode) {
    LockDesk::Interest interest = locks_.interest(request.inode, SessionId());
    Result<void> gathered = co_await gather_locks(request.inode, rpc.deadline);
    if (!gathered) co_return gathered.error();
  } else {
    inodes = core_.machine().locked_inodes(InodeId(), kLocksMax);
    std::vector<InodeId> waited_for = locks_.waited_for();
    inodes.insert(inodes.end(), waited_for.begin(), waited_for.end());
    std::ranges::sort(inodes);
    inodes.erase(std::ranges::unique(inodes).begin(), inodes.end());
  }
  ListLocksReply reply;
  std::set<SessionId> sessions;
  for (InodeId inode : inodes) {
    for (LockInfo& lock : locks_of(inode)) {
      reply.more = reply.locks.size() == kLocksMax;
      if (reply.more) break;
      sessions.insert(lock.lock.session);
      reply.locks.push_back(std::move(lock));
    }
  }
  reply.sessions = names_of(sessions);
  co_return reply;
}

Task<Result<BreakLocksReply>> ControlService::break_locks(BreakLocksRequest request, RpcRequest rpc) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  LockDesk::Interest interest = locks_.interest(request.inode, SessionId());
  Result<void> gathered = co_await gather_locks(request.inode, rpc.deadline);
  if (!gathered) co_return gathered.error();
  BreakLocksReply reply;
  if (core_.machine().locks(request.inode).all().empty()) co_return reply;
  Result<BrokenLocks> broken = co_await core_.propose_for<BrokenLocks>(BreakLocks{request.inode}, true);
  if (!broken) co_return broken.error();
  // Those that went, whoever had them by then.
  std::set<SessionId> sessions;
  for (const FileLock& lock : broken->locks) {
    reply.locks.push_back({.inode = request.inode, .lock = lock, .waits = false});
    sessions.insert(lock.session);
  }
  reply.sessions = names_of(sessions);
  log_warning("master.locks_broken", "inode={} locks={}", request.inode, reply.locks.size());
  for (SessionId session : sessions) {
    if (sessions_.check(session)) recalls_.locks_broken(session, request.inode);
  }
  locks_.changed(request.inode);
  co_return reply;
}

Task<Result<WhyReply>> ControlService::why(WhyRequest request, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  auto ask = [inode = request.inode](Machine& machine, ReadMode mode) { return machine.get_attributes(inode, mode); };
  Result<Attributes> attributes = co_await core_.read(ask);
  if (!attributes) co_return attributes.error();
  auto ask_layout = [inode = request.inode](Machine& machine, ReadMode mode) {
    return machine.layout(inode, 0, kLayoutMax, mode);
  };
  Result<std::vector<FileChunk>> chunks = std::vector<FileChunk>();
  if (attributes->type == FileType::kRegular) chunks = co_await core_.read(ask_layout);
  if (!chunks) co_return chunks.error();
  WhyReply reply;
  reply.attributes = *attributes;
  std::set<SessionId> sessions;
  for (const LeaseTable::Holder& holder : leases_.holders(request.inode)) {
    reply.leases.push_back({.session = holder.session,
                            .exclusive = holder.exclusive,
                            .recalled = holder.recalled,
                            .recalled_ms = ms(recalls_.unanswered_for(holder.session, request.inode))});
    reply.locks_are_local = reply.locks_are_local || holder.exclusive;
    sessions.insert(holder.session);
  }
  for (const LeaseTable::Changing& change : leases_.changing(request.inode)) {
    reply.changes.push_back(
        {.session = change.by, .kind = change.touched.kind, .name = change.touched.name, .unanswered = change.pending});
    sessions.insert(change.by);
  }
  reply.locks = locks_of(request.inode);
  for (const LockInfo& lock : reply.locks)
    sessions.insert(lock.lock.session);
  reply.open = open_files_.holders(request.inode);
  sessions.insert(reply.open.begin(), reply.open.end());
  for (const FileChunk& chunk : *chunks) {
    if (chunk.chunk.state == ChunkState::kOpen && reply.writing.size() < kWritingChunksMax)
      reply.writing.push_back(chunk.id);
  }
  reply.sessions = names_of(sessions);
  co_return reply;
}

}  // namespace cairn
