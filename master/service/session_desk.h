// SessionDesk: sessions as the leader serves them: opening, renewing (many in one log entry), ending, and the tick that
// moves log time and ends those whose time is over.
//
// Loop thread only.
#pragma once

#include <functional>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/proto/meta_types.h"
#include "common/runtime/future.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "master/leases/lease_table.h"
#include "master/leases/open_files.h"
#include "master/leases/unheld_files.h"
#include "master/service/core.h"
#include "master/service/lock_desk.h"
#include "master/service/recall_desk.h"

namespace cairn {

class SessionDesk {
 public:
  // What is kept of sessions, beside the log. All of it begins anew with each leadership.
  struct Kept {
    LeaseTable& leases;
    OpenFiles& open_files;
    UnheldFiles& unheld;
    RecallDesk& recalls;
    LockDesk& locks;
  };
  SessionDesk(MasterCore& core, Kept kept);

  void start_leading();
  void stop_leading();
  Task<void> stop();

  Task<Result<OpenSessionReply>> open(OpenSessionRequest request);
  Task<Result<RenewSessionReply>> renew(RenewSessionRequest request);
  Task<Result<EmptyReply>> close(CloseSessionRequest request);
  // To be asked first of every request. A client speaks over one connection: what arrives over an earlier one was held
  // up on its way, has been given up or sent again since, and could undo what came after it (a close the next open, a
  // lease given back the next one). kUnavailable then.
  Result<void> arrived(SessionId session, uint64_t connection);
  // kSessionEnded if there is no such session; kUnavailable (ask again) until that is confirmed.
  Result<void> check(SessionId session) const;
  // A session with a mountpoint: it can be asked to give a lease back.
  bool may_hold(SessionId session) const;
  // True once every session that was there when this master began to lead has said what it holds, or has ended.
  bool all_reclaimed() const { return unclaimed_.empty(); }
  Task<Result<void>> wait_reclaimed(TimePoint deadline);

  // This process did not run for a while; what counted the silence of others begins anew.
  void on_stalled(std::function<void()> callback) { stalled_ = std::move(callback); }

  uint64_t now_ms() const;

 private:
  Task<void> confirm_ended(SessionId session) const;
  Task<void> run(uint64_t leadership);
  Task<Result<void>> count_created(SessionId session, std::vector<uint64_t> unanswered);
  Task<void> renew_batches();
  Task<Result<void>> end(SessionId session);
  Task<void> fence(SessionId session);
  void forget(SessionId session, bool by_itself);

  MasterCore& core_;
  Kept kept_;
  uint64_t leadership_ = 0;  // moves with each change: loops of an earlier one end
  std::set<SessionId> unclaimed_;
  Condition reclaimed_;
  struct Renewal {
    SessionId session;
    Promise<void> promise;
  };
  std::vector<Renewal> renewals_;
  bool renewing_ = false;
  std::unordered_map<SessionId, uint64_t> connections_;  // of each session that asked here: its newest
  std::function<void()> stalled_;
  mutable std::set<SessionId> confirming_;
  mutable std::set<SessionId> confirmed_ended_;  // ids are never used again, so it stays so
  mutable TaskGroup tasks_;
};

}  // namespace cairn
