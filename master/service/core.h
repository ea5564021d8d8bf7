// MasterCore: what every service of a master stands on: proposing commands, reading the state, time and keys.
//
// Loop thread only. World, Machine and ReplicatedLog outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "common/base/result.h"
#include "common/runtime/blocking_pool.h"
#include "common/runtime/world.h"
#include "master/consensus/engine.h"
#include "master/namespace/machine.h"

namespace cairn {

class MasterCore {
 public:
  MasterCore(World& world, Machine& machine, ReplicatedLog& log);

  // Logs and applies one command; the reply is the machine's, or kNotLeader, kUnavailable, kOverload, kNoSpace of the
  // log. `may_use_reserve`: what frees space is accepted when the log's disk is nearly full, too.
  Task<Result<ReplyBody>> propose(Command command, bool may_use_reserve = false);
  // The same for a reply of a known kind.
  template <class T>
  Task<Result<T>> propose_for(Command command, bool may_use_reserve = false) {
    Result<ReplyBody> reply = co_await propose(std::move(command), may_use_reserve);
    if (!reply) co_return reply.error();
    T* value = std::get_if<T>(&*reply);
    CHECK(value);
    co_return std::move(*value);
  }

  // A linearizable read. `ask(machine, mode)` gives a Result; it runs here if memory can answer, else on a pool's
  // thread (it must own what it uses).
  template <class F>
  auto read(F ask) -> Task<std::invoke_result_t<F&, Machine&, ReadMode>> {
    return read_on(*this, std::move(ask));
  }
  // For the lists of Machine that always block.
  template <class F>
  auto read_blocking(F ask) -> Task<std::invoke_result_t<F&, Machine&>> {
    return read_blocking_on(*this, std::move(ask));
  }

  World& world() { return world_; }
  Machine& machine() { return machine_; }
  ReplicatedLog& log() { return log_; }
  // Leading, and everything that earlier leaders answered is applied here: services may answer.
  bool leading() const { return serving_ && log_.leading(); }
  void set_serving(bool serving) { serving_ = serving; }
  // What who asks a master that does not lead is told: where to go on, as far as is known.
  Error not_leader() const;
  uint64_t term() const { return log_.term(); }
  uint64_t log_time_ms() const { return log_.log_time_ms(); }
  ClusterId cluster() const { return machine_.cluster().cluster; }

 private:
  template <class F>
  static auto read_on(MasterCore& core, F ask) -> Task<std::invoke_result_t<F&, Machine&, ReadMode>> {
    Result<void> current = co_await core.log_.read_barrier();
    if (!current) co_return current.error();
    auto answer = ask(core.machine_, ReadMode::kMemoryOnly);
    if (!answer.failed_with(ErrorCode::kNotCached)) co_return answer;
    Machine* machine = &core.machine_;
    auto slow = co_await core.pool_->run(
        [machine, ask = std::move(ask)]() mutable { return ask(*machine, ReadMode::kMayBlock); });
    co_return slow;
  }
  template <class F>
  static auto read_blocking_on(MasterCore& core, F ask) -> Task<std::invoke_result_t<F&, Machine&>> {
    Machine* machine = &core.machine_;
    auto answer = co_await core.pool_->run([machine, ask = std::move(ask)]() mutable { return ask(*machine); });
    co_return answer;
  }

  World& world_;
  Machine& machine_;
  ReplicatedLog& log_;
  bool serving_ = false;
  std::unique_ptr<BlockingPool> pool_;
};

}  // namespace cairn
