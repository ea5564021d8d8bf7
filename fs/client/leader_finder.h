// LeaderFinder: which of the masters leads, and the connections to them.
//
// It begins with the masters that were given, takes the first for the leader, and learns the others of the group from
// what they answer. When the leader is lost, refuses, or keeps a request waiting, all are asked who leads (the request
// master_status, which every master answers); the one that leads in the highest term is the leader from then on, and
// what was still waiting for an answer of the one before ends with kUnavailable, to be repeated: a master that hangs
// costs its users an election, not a deadline.
//
// Loop thread only. The World outlives it. stop() is awaited before it goes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/proto/methods.h"
#include "common/rpc/leader_hint.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_typed.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {

// How long one attempt may take before it is made again.
inline constexpr Duration kMasterAttempt = std::chrono::seconds(5);
// Who has not got an answer for so long asks the other masters who leads.
inline constexpr Duration kLeaderDoubt = std::chrono::milliseconds(500);
// A leader that nothing is asked of is looked after that often.
inline constexpr Duration kLeaderProbe = std::chrono::seconds(1);
// Between two rounds of asking all, while no leader is known; longer once that has lasted.
inline constexpr Duration kSeekPause = std::chrono::milliseconds(100);
inline constexpr Duration kSeekPauseLong = std::chrono::milliseconds(500);
// A group has five masters at most; what else may be known is the past of a group whose masters were all replaced.
inline constexpr size_t kMastersKnownMax = 32;

// What says nothing about the request itself: somebody else, or the same a little later, may answer.
bool is_masters_trouble(ErrorCode code);

class LeaderFinder {
 public:
  LeaderFinder(World& world, const std::vector<Address>& masters, std::string program);
  ~LeaderFinder();

  void start();
  // Calls in flight end with kCancelled.
  Task<void> stop();

  // Until a leader is known; kUnavailable with the addresses at the deadline.
  Task<Result<void>> wait_found(TimePoint deadline);
  // One attempt at whoever leads; waits for a leader until `deadline` (then kUnavailable, with the addresses). After an
  // error that is_masters_trouble() it has waited as long as it makes sense before the next attempt.
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> ask_once(Request request, TimePoint deadline,
                                                         Duration attempt = kMasterAttempt) {
    return ask_leader(std::move(request), deadline, attempt);
  }

  // Of a request that the leader keeps until it has something to say: that it waits says nothing about the leader.
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> ask_patiently(Request request, TimePoint deadline) {
    return ask_leader(std::move(request), deadline, std::nullopt);
  }

  // Called when a leader has been found: another one, or the one before again.
  void on_found(std::function<void()> callback) { found_ = std::move(callback); }
  void set_cluster(ClusterId cluster);
  // The highest term of a leader that has been heard of.
  uint64_t term() const { return term_; }
  // Null while none is known.
  const Address* leader() const { return leader_ ? &leader_->client.address() : nullptr; }
  // Of all masters that are known.
  std::vector<Address> addresses() const;

 private:
  struct Master {
    Master(World& world, const Address& address, RpcClientOptions options) : client(world, address, options) {}
    RpcClient client;
    bool asking = false;       // a master_status is on its way
    uint64_t silent_term = 0;  // as the leader of this term it did not answer, or refused; others may not know it yet
  };
  // A request that waits for its answer.
  class Waiting {
   public:
    explicit Waiting(LeaderFinder& finder)
        : finder_(finder), place_(finder.waiting_.insert(finder.waiting_.end(), finder.world_.clock().now())) {}
    ~Waiting() { finder_.waiting_.erase(place_); }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

   private:
    LeaderFinder& finder_;
    std::list<TimePoint>::iterator place_;
  };

  // `attempt`: none if the leader may keep it until the deadline.
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> ask_leader(Request request, TimePoint deadline,
                                                           std::optional<Duration> attempt);
  Master& master_at(const Address& address);
  Task<Result<Master*>> wait_leader(TimePoint deadline);
  Task<void> failed(Master& master, Error error, TimePoint began, uint64_t moves, TimePoint deadline);
  void follow(Master& refused, const std::optional<LeaderHint>& hint);
  void lost(Master& master);
  void doubt();
  void lead(Master& master, uint64_t term);
  void heard(Master& master, const MasterStatusReply& status);
  Task<void> seek();
  Task<void> ask_status(Master& master);
  Task<void> watch();

  World& world_;
  RpcClientOptions options_;
  std::vector<std::unique_ptr<Master>> masters_;
  Master* leader_ = nullptr;
  Master* last_leader_ = nullptr;
  uint64_t term_ = 0;
  uint64_t moves_ = 0;  // counts leaders found
  ClusterId cluster_;
  bool seeking_ = false;
  TimePoint next_doubt_{};
  TimePoint next_probe_{};
  std::list<TimePoint> waiting_;  // the oldest first
  std::function<void()> found_;
  Condition changed_;
  TaskGroup tasks_;
};

template <class Request>
Task<Result<typename Method<Request>::Reply>> LeaderFinder::ask_leader(Request request, TimePoint deadline,
                                                                       std::optional<Duration> attempt) {
  Master* master = leader_;
  if (!master) {
    Result<Master*> awaited = co_await wait_leader(deadline);
    if (!awaited) co_return awaited.error();
    master = *awaited;
  }
  uint64_t moves = moves_;
  TimePoint began = world_.clock().now();
  Error error(ErrorCode::kUnavailable);
  {
    std::optional<Waiting> waiting;
    if (attempt) waiting.emplace(*this);
    RpcClient::CallOptions options{.deadline = attempt ? std::min(deadline, began + *attempt) : deadline};
    auto answer = co_await typed_call(master->client, std::move(request), options);
    if (answer) co_return std::move(answer->reply);
    error = answer.error();
  }
  bool waited_only = !attempt && error.code == ErrorCode::kTimeout;
  if (is_masters_trouble(error.code) && !waited_only) co_await failed(*master, error, began, moves, deadline);
  co_return error;
}

}  // namespace cairn
