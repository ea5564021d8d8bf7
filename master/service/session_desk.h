// SessionDesk: sessions as the leader serves them: opening, renewing (many in one log entry), ending, and the tick that
// moves log time and ends those whose time is over.
//
// Loop thread only.
#pragma once

#include <functional>
#include <set>
#include <vector>

#include "common/proto/meta_types.h"
#include "common/runtime/future.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "master/leases/shared_leases.h"
#include "master/service/core.h"

namespace cairn {

class SessionDesk {
 public:
  SessionDesk(MasterCore& core, SharedLeases& leases);

  void start_leading();
  void stop_leading();
  Task<void> stop();

  Task<Result<OpenSessionReply>> open(OpenSessionRequest request);
  Task<Result<RenewSessionReply>> renew(RenewSessionRequest request);
  Task<Result<EmptyReply>> close(CloseSessionRequest request);
  // kSessionEnded if there is no such session; kUnavailable (ask again) until that is confirmed.
  Result<void> check(SessionId session) const;
  // True once every session that was there when this master began to lead has said what it holds open, or has ended.
  bool all_reclaimed() const { return unclaimed_.empty(); }
  Task<Result<void>> wait_reclaimed(TimePoint deadline);
  // Somebody who waits for a lease should look again.
  void on_ended(std::function<void(SessionId)> callback) { ended_ = std::move(callback); }

  // This process did not run for a while; what counted the silence of others begins anew.
  void on_stalled(std::function<void()> callback) { stalled_ = std::move(callback); }

  uint64_t now_ms() const;

 private:
  Task<void> confirm_ended(SessionId session) const;
  Task<void> run(uint64_t leadership);
  Task<void> renew_batches();
  void forget(SessionId session);

  MasterCore& core_;
  SharedLeases& leases_;
  uint64_t leadership_ = 0;  // moves with each change: loops of an earlier one end
  std::set<SessionId> unclaimed_;
  Condition reclaimed_;
  struct Renewal {
    SessionId session;
    Promise<void> promise;
  };
  std::vector<Renewal> renewals_;
  bool renewing_ = false;
  std::function<void(SessionId)> ended_;
  std::function<void()> stalled_;
  mutable std::set<SessionId> confirming_;
  mutable std::set<SessionId> confirmed_ended_;  // ids are never used again, so it stays so
  mutable TaskGroup tasks_;
};

}  // namespace cairn
