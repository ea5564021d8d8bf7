// MasterLink: this client's session with the masters. It opens and renews the session at whoever leads (LeaderFinder),
// repeats what was not answered, and gives each mutation its place in the session, so that it acts once however often
// it is sent.
//
// What is known under leases may be used while the session is valid: until the sending of the last renewal that
// succeeded plus the session's time, less a margin for clocks that do not run alike. After that it is suspended: until
// a renewal has succeeded and everything is known that was recalled meanwhile (before_resuming).
//
// Loop thread only. Calls end within ClientOptions::request_timeout: with the answer, with the master's error, or with
// kIo when no master answered in time (the outcome of a mutation is then unknown).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "common/base/metrics.h"
#include "common/proto/methods.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_typed.h"
#include "common/runtime/sync.h"
#include "fs/client/file_system.h"
#include "fs/client/leader_finder.h"

namespace cairn {

class MasterLink {
 public:
  MasterLink(World& world, ClientOptions options);
  ~MasterLink();

  // kUnavailable with the addresses if nobody answers within connect_timeout.
  Task<Result<void>> open_session();

  // A read, or another request that may act twice. The session's id is filled in.
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> ask(Request request) {
    return ask_until(std::move(request), world_.clock().now() + options_.request_timeout);
  }
  // `only`: under this session, if one is named; kIo if another one is there.
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> ask_until(Request request, TimePoint deadline, SessionId only = {});

  // One attempt of a request about the session itself, which means nothing under another one: kSessionEnded, too, if it
  // was answered and the session has been replaced meanwhile. `patiently`: it waits at the master until that has
  // something to say.
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> ask_session(Request request, TimePoint deadline,
                                                            bool patiently = false);

  // An answer that comes when the session has been replaced brings no lease.
  Task<Result<MutationReply>> mutate(MetaOp op) {
    return mutate_until(std::move(op), world_.clock().now() + options_.request_timeout);
  }
  Task<Result<MutationReply>> mutate_until(MetaOp op, TimePoint deadline);
  // Only under this session: what it says would be wrong under the next. kIo if that one is there.
  Task<Result<MutationReply>> mutate_in(SessionId session, MetaOp op);

  // ---- how long what is known under leases may be used
  bool suspended() const { return valid_left() <= Duration::zero(); }
  Duration valid_left() const;
  // Renews if it has to. kIo at the deadline.
  Task<Result<void>> wait_valid(TimePoint deadline);
  // Asked after a suspension, when a renewal has succeeded: everything that was recalled meanwhile is to be known.
  // False: that could not be found out.
  void before_resuming(std::function<Task<bool>()> callback) { before_resuming_ = std::move(callback); }

  SessionId session() const { return session_; }
  ClusterId cluster() const { return cluster_; }
  uint64_t term() const { return term_; }
  // The master's wall clock, as far as known: file times are made of it.
  FileTime now() const { return world_.clock().wall().ns + wall_offset_ns_; }
  // All inodes held open, asked for when a new master leads (it must know who has what open).
  void set_open_inodes(std::function<std::vector<InodeId>()> source) { open_inodes_ = std::move(source); }
  // Likewise all leases; they are told to the leader of this term. `told`: it has heard all of them.
  void set_leases(std::function<std::vector<HeldLease>(uint64_t)> source, std::function<void(uint64_t)> told) {
    leases_ = std::move(source);
    leases_told_ = std::move(told);
  }
  // The master no longer knows the session: everything under it is lost. A new one has been opened when this is called;
  // nothing is asked under it before this is done.
  void on_session_lost(std::function<Task<void>()> callback) { session_lost_ = std::move(callback); }
  std::vector<Address> masters() const { return masters_.addresses(); }
  // Without what keeps the session alive: renewals, and waiting for recalls.
  uint64_t requests_sent() const { return requests_sent_; }

  // Ends the session (bounded) and stops.
  Task<void> close(TimePoint deadline);

 private:
  Task<Result<void>> try_open_session(TimePoint deadline);
  Task<void> renew_forever();
  Task<void> renew_once();
  Task<Result<RenewSessionReply>> renew(RenewSessionRequest request);
  Task<void> renewed(TimePoint asked, uint32_t duration_ms);
  void count_request();
  Task<void> replace_session();
  // While a session that has ended is being replaced. kUnavailable at the deadline.
  Task<Result<void>> wait_replaced(TimePoint deadline);
  // After an attempt that failed: false: give up.
  Task<bool> may_retry(Error error, TimePoint deadline, SessionId used);
  void learn_time(TimePoint asked, FileTime now);

  World& world_;
  ClientOptions options_;
  LeaderFinder masters_;
  SessionId session_;
  ClusterId cluster_;
  uint64_t term_ = 0;  // whose master knows all that is held
  Duration session_time_{};
  TimePoint valid_until_{};
  bool closing_ = false;
  int64_t wall_offset_ns_ = 0;
  uint64_t next_sequence_ = 1;
  std::set<uint64_t> in_flight_;
  std::set<uint64_t> creating_;  // of those: files that will be open
  uint64_t requests_sent_ = 0;
  bool replacing_ = false;
  Condition replaced_;
  bool renew_now_ = false;  // a leader has been found: it is to know at once what is held open
  Condition renewal_;
  Condition valid_;  // somebody waits for that, or the session is valid again
  bool wanted_valid_ = false;
  Counter& requests_;
  std::function<std::vector<InodeId>()> open_inodes_;
  std::function<std::vector<HeldLease>(uint64_t)> leases_;
  std::function<void(uint64_t)> leases_told_;
  std::function<Task<bool>()> before_resuming_;
  std::function<Task<void>()> session_lost_;
  TaskGroup tasks_;
};

template <class Request>
Task<Result<typename Method<Request>::Reply>> MasterLink::ask_until(Request request, TimePoint deadline,
                                                                    SessionId only) {
  for (;;) {
    Result<void> replaced = co_await wait_replaced(deadline);
    if (!replaced) co_return replaced.error();
    if (only && only != session_) co_return Error(ErrorCode::kIo, "the session with the master has ended");
    if constexpr (requires { request.session; }) request.session = session_;
    SessionId used = session_;
    count_request();
    auto reply = co_await masters_.ask_once(request, deadline);
    // What was answered to the session before may have brought leases that went with it.
    if (reply && used == session_ && !replacing_) co_return reply;
    Error error = reply ? Error(ErrorCode::kSessionEnded) : reply.error();
    bool again = co_await may_retry(error, deadline, used);
    if (!again) co_return error;
  }
}

template <class Request>
Task<Result<typename Method<Request>::Reply>> MasterLink::ask_session(Request request, TimePoint deadline,
                                                                      bool patiently) {
  SessionId used = session_;
  Result<void> replaced = co_await wait_replaced(deadline);
  if (!replaced) co_return replaced.error();
  if (used != session_) co_return Error(ErrorCode::kSessionEnded);
  request.session = used;
  Result<typename Method<Request>::Reply> reply(ErrorCode::kIo);
  if (patiently) {
    reply = co_await masters_.ask_patiently(std::move(request), deadline);
  } else {
    reply = co_await masters_.ask_once(std::move(request), deadline);
  }
  if (reply && used == session_ && !replacing_) co_return reply;
  Error error = reply ? Error(ErrorCode::kSessionEnded) : reply.error();
  (void)co_await may_retry(error, deadline, used);
  co_return error;
}

}  // namespace cairn
