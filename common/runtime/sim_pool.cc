#include "common/runtime/sim_pool.h"

#include <algorithm>
#include <utility>

namespace cairn {

SimPool::SimPool(SimNode& node, size_t threads) : state_(std::make_shared<State>(node)) {
  state_->idle = threads;
  node.pools_.push_back(this);
}

SimPool::~SimPool() {
  std::vector<SimPool*>& pools = state_->node.pools_;
  pools.erase(std::remove(pools.begin(), pools.end(), this), pools.end());
  // As the real one: what was submitted is done before the pool is gone.
  while (!state_->waiting.empty())
    run_one(state_);
}

void SimPool::submit(std::move_only_function<void()> work, std::move_only_function<void()> done) {
  if (!state_->node.running()) return;
  ++state_->pending;
  state_->waiting.push_back(Job{std::move(work), std::move(done)});
  start_work(state_);
}

size_t SimPool::pending() const {
  return state_->pending;
}

Executor& SimPool::executor() {
  return state_->node.executor();
}

void SimPool::crash() {
  state_->waiting.clear();
}

void SimPool::start_work(const std::shared_ptr<State>& state) {
  if (state->idle == 0 || state->waiting.empty()) return;
  --state->idle;
  SimNode& node = state->node;
  const SimOptions& options = node.simulator().options();
  Duration before = options.pool_works_late
                        ? Simulator::draw(*node.machine_random_, options.pool_min, options.pool_max)
                        : Duration::zero();
  node.schedule(before, Simulator::EventKind::kPool, "work", 0, [state] {
    // The pool's destructor may have done it all.
    if (!state->waiting.empty()) {
      run_one(state);
    } else {
      ++state->idle;
    }
  });
}

void SimPool::run_one(const std::shared_ptr<State>& state) {
  Job job = std::move(state->waiting.front());
  state->waiting.pop_front();
  SimNode& node = state->node;
  node.memory_disk().take_cost();  // others' costs, who did not ask
  job.work();
  job.work = nullptr;
  const SimOptions& options = node.simulator().options();
  Duration cost = node.memory_disk().take_cost();
  if (!options.pool_works_late) cost += Simulator::draw(*node.machine_random_, options.pool_min, options.pool_max);
  node.schedule(cost, Simulator::EventKind::kPool, "done", 0, [state, done = std::move(job.done)]() mutable {
    --state->pending;
    ++state->idle;
    start_work(state);
    done();
  });
}

}  // namespace cairn
