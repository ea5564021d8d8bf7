// MetaService: locks of files (docs/decisions/008-locks.md).
#include <algorithm>
#include <utility>

#include "master/service/meta_service.h"

namespace cairn {

Task<Result<void>> MetaService::prepare_lock(SessionId session, InodeId inode, Prepared& prepared, TimePoint deadline) {
  prepared.lock = locks_.interest(inode, session);
  // Who holds it exclusively is known when all sessions have said so to this leader.
  Result<void> reclaimed = co_await sessions_.wait_reclaimed(deadline);
  if (!reclaimed) co_return reclaimed;
  Result<void> handed_over = co_await recalls_.wait_written(inode, session, deadline);
  if (!handed_over) co_return handed_over;
  co_return ready(session);
}

void MetaService::finish_lock(SessionId session, InodeId inode, MutationReply& reply) {
  locks_.changed(inode);
  reply.locked_elsewhere = locks_.locked_elsewhere(inode, session);
  std::vector<LeaseTable::Holder> holders = leases_.holders(inode);
  reply.leased_elsewhere = std::ranges::any_of(holders, [&](const auto& holder) { return holder.session != session; });
}

Task<Result<TestLockReply>> MetaService::test_lock(TestLockRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Prepared prepared;
  able = co_await prepare_lock(request.session, request.inode, prepared, rpc.deadline);
  if (!able) co_return able.error();
  request.lock.session = request.session;
  Result<void> right = check_lock(request.lock);
  if (!right) co_return right.error();
  auto ask = [inode = request.inode](Machine& machine, ReadMode) -> Result<InodeLocks> { return machine.locks(inode); };
  Result<InodeLocks> locks = co_await core_.read(ask);
  if (!locks) co_return locks.error();
  co_return TestLockReply{.conflict = locks->conflict(request.lock)};
}

Task<Result<WaitLockReply>> MetaService::wait_lock(WaitLockRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<void> reclaimed = co_await sessions_.wait_reclaimed(rpc.deadline);
  if (!reclaimed) co_return reclaimed.error();
  able = ready(request.session);
  if (!able) co_return able.error();
  Result<WaitLockReply> reply = co_await locks_.wait(std::move(request), rpc.deadline);
  co_return reply;
}

Task<Result<EmptyReply>> MetaService::cancel_wait(CancelWaitRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  // The wait that it is about may not have begun, for the same reason.
  Result<void> reclaimed = co_await sessions_.wait_reclaimed(rpc.deadline);
  if (!reclaimed) co_return reclaimed.error();
  able = ready(request.session);
  if (!able) co_return able.error();
  locks_.cancel(request);
  co_return EmptyReply{};
}

}  // namespace cairn
