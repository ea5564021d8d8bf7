// SimPool: a BlockingPool on simulated time. Work waits for one of the pool's "threads", then runs at once, inside an
// event; its completion arrives after what the disk says it cost and a delay drawn from the seed. Internal to the
// simulator.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "common/runtime/blocking_pool.h"
#include "common/runtime/sim_world.h"

namespace cairn {

class SimPool final : public BlockingPool {
 public:
  SimPool(SimNode& node, size_t threads);
  ~SimPool() override;

  void submit(std::move_only_function<void()> work, std::move_only_function<void()> done) override;
  size_t pending() const override;
  Executor& executor() override;

  // The process is gone: what waits is dropped, and nothing is run by the destructor.
  void crash();

 private:
  struct Job {
    std::move_only_function<void()> work;
    std::move_only_function<void()> done;
  };
  // Shared with the events of work that runs, which may outlive the pool.
  struct State {
    explicit State(SimNode& node_in) : node(node_in) {}
    SimNode& node;
    std::deque<Job> waiting;
    size_t idle = 0;
    size_t pending = 0;
  };
  static void start_work(const std::shared_ptr<State>& state);
  static void run_one(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace cairn
