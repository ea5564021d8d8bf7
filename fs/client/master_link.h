// MasterLink: this client's session with the masters. It opens and renews the session at whoever leads (LeaderFinder),
// repeats what was not answered, and gives each mutation its place in the session, so that it acts once however often
// it is sent.
//
// Loop thread only. Calls end within ClientOptions::request_timeout: with the answer, with the master's error, or with
// kIo when no master answered in time (the outcome of a mutation is then unknown).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

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
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> ask_until(Request request, TimePoint deadline);

  Task<Result<MutationReply>> mutate(MetaOp op) {
    return mutate_until(std::move(op), world_.clock().now() + options_.request_timeout);
  }
  Task<Result<MutationReply>> mutate_until(MetaOp op, TimePoint deadline);

  SessionId session() const { return session_; }
  ClusterId cluster() const { return cluster_; }
  uint64_t term() const { return term_; }
  // The master's wall clock, as far as known: file times are made of it.
  FileTime now() const { return world_.clock().wall().ns + wall_offset_ns_; }
  // When a lease that came with an answer to a request sent at `asked` runs out.
  static TimePoint lease_end(TimePoint asked, const Lease& lease) {
    return asked + std::chrono::milliseconds(lease.duration_ms);
  }

  // All inodes held open, asked for when a new master leads (it must know who has what open).
  void set_open_inodes(std::function<std::vector<InodeId>()> source) { open_inodes_ = std::move(source); }
  // The master no longer knows the session: everything under it is lost. A new one has been opened when this is called.
  void on_session_lost(std::function<void()> callback) { session_lost_ = std::move(callback); }
  std::vector<Address> masters() const { return masters_.addresses(); }
  uint64_t requests_sent() const { return requests_sent_; }

  // Ends the session (bounded) and stops.
  Task<void> close(TimePoint deadline);

 private:
  Task<Result<void>> try_open_session(TimePoint deadline);
  Task<void> renew_forever();
  Task<void> renew_once();
  Task<void> replace_session();
  // After an attempt that failed: false: give up.
  Task<bool> may_retry(Error error, TimePoint deadline, SessionId used);
  void learn_time(TimePoint asked, FileTime now);

  World& world_;
  ClientOptions options_;
  LeaderFinder masters_;
  SessionId session_;
  ClusterId cluster_;
  uint64_t term_ = 0;
  uint64_t told_term_ = 0;  // whose master knows all that is held open
  Duration session_time_{};
  int64_t wall_offset_ns_ = 0;
  uint64_t next_sequence_ = 1;
  std::set<uint64_t> in_flight_;
  uint64_t requests_sent_ = 0;
  bool replacing_ = false;
  Condition replaced_;
  bool renew_now_ = false;  // a leader has been found: it is to know at once what is held open
  Condition renewal_;
  std::function<std::vector<InodeId>()> open_inodes_;
  std::function<void()> session_lost_;
  TaskGroup tasks_;
};

template <class Request>
Task<Result<typename Method<Request>::Reply>> MasterLink::ask_until(Request request, TimePoint deadline) {
  for (;;) {
    while (replacing_)
      co_await replaced_.wait();
    if constexpr (requires { request.session; }) request.session = session_;
    SessionId used = session_;
    ++requests_sent_;
    auto reply = co_await masters_.ask_once(request, deadline);
    if (reply) co_return reply;
    Error error = reply.error();
    bool again = co_await may_retry(error, deadline, used);
    if (!again) co_return error;
  }
}

}  // namespace cairn
