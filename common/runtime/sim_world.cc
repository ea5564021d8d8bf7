#include "common/runtime/sim_world.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/sim_network.h"
#include "common/runtime/sim_pool.h"

namespace cairn {

namespace {

// Programs that post in a circle would stop time for ever.
constexpr uint64_t kEventsAtOneTimeMax = 5'000'000;
constexpr int64_t kWallStartNs = 1'700'000'000'000'000'000;
constexpr TimePoint kStartOfTime{std::chrono::seconds(1000)};

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
  return hash ^ (hash >> 29);
}

const char* kind_name(int kind) {
  static constexpr const char* kNames[] = {"post", "timer", "pool", "net", "start", "test", "note"};
  return kNames[kind];
}

}  // namespace

// ---- Simulator

Simulator::Simulator(uint64_t seed, SimOptions options) : options_(std::move(options)) {
  seeds_ = make_seeded_random(seed);
  random_ = make_seeded_random(seeds_->next_u64());
  network_ = std::make_unique<SimNetwork>(*this, make_seeded_random(seeds_->next_u64()));
}

Simulator::~Simulator() {
  // Programs go while everything they may touch is still there.
  for (auto& node : nodes_) {
    if (node->running()) node->crash(Crash::kProcess);
  }
  // What an event holds may schedule others when it is destroyed.
  while (!queue_.empty())
    std::exchange(queue_, {}).clear();
}

SimNode& Simulator::add_node(const std::string& name, SimNodeOptions options) {
  CHECK(!find_node(name));
  nodes_.push_back(std::unique_ptr<SimNode>(new SimNode(*this, name, nodes_.size() + 1, options)));
  return *nodes_.back();
}

SimNode* Simulator::find_node(const std::string& name) {
  for (auto& node : nodes_) {
    if (node->name() == name) return node.get();
  }
  return nullptr;
}

Simulator::Key Simulator::schedule(TimePoint when, Event event) {
  CHECK(std::this_thread::get_id() == thread_);
  Key key{std::max(when, now_), next_sequence_++};
  queue_.emplace(key, std::move(event));
  return key;
}

bool Simulator::step() {
  CHECK(!current_);
  if (queue_.empty()) return false;
  auto next = queue_.extract(queue_.begin());
  const Key& key = next.key();
  Event& event = next.mapped();
  if (key.first > now_) {
    now_ = key.first;
    events_at_this_time_ = 0;
  }
  ++events_at_this_time_;
  CHECK(events_at_this_time_ < kEventsAtOneTimeMax);
  if (event.node && event.node->paused_) {
    event.node->deferred_.emplace(key, std::move(event));
    return true;
  }
  record(key.first, event.node ? event.node->name() : "", event.kind, event.label, event.detail);
  ++events_run_;
  current_ = event.node;
  event.run();
  event.run = nullptr;  // what it holds goes while this is still its node's turn
  current_ = nullptr;
  return true;
}

bool Simulator::run_until(const std::function<bool()>& condition, Duration limit) {
  TimePoint end = now_ + limit;
  while (!condition()) {
    if (queue_.empty() || queue_.begin()->first.first > end) {
      now_ = end;
      return condition();
    }
    step();
  }
  return true;
}

void Simulator::run_for(Duration duration) {
  run_until([] { return false; }, duration);
}

void Simulator::after(Duration delay, std::move_only_function<void()> fn) {
  schedule(now_ + delay, Event{nullptr, EventKind::kTest, "test", 0, std::move(fn)});
}

void Simulator::record(TimePoint when, std::string_view node, EventKind kind, std::string_view label, uint64_t detail) {
  trace_hash_ = mix(trace_hash_, static_cast<uint64_t>(when.time_since_epoch().count()));
  trace_hash_ = mix(trace_hash_, static_cast<uint64_t>(kind));
  for (std::string_view text : {node, label}) {
    for (char c : text)
      trace_hash_ = mix(trace_hash_, static_cast<unsigned char>(c));
  }
  trace_hash_ = mix(trace_hash_, detail);
  if (options_.trace) {
    options_.trace(fmt::format("{:.9f} {} {} {} {}", std::chrono::duration<double>(when.time_since_epoch()).count(),
                               node.empty() ? "-" : node, kind_name(static_cast<int>(kind)), label, detail));
  }
}

void Simulator::note(std::string_view text, uint64_t number) {
  record(now_, current_ ? current_->name() : "", EventKind::kNote, text, number);
}

std::vector<Simulator::Event> Simulator::take_events(SimNode& node) {
  std::vector<Event> taken;
  for (auto* events : {&queue_, &node.deferred_}) {
    for (auto event = events->begin(); event != events->end();) {
      if (event->second.node == &node) {
        taken.push_back(std::move(event->second));
        event = events->erase(event);
      } else {
        ++event;
      }
    }
  }
  return taken;
}

Duration Simulator::draw(Random& random, Duration min, Duration max) {
  return min + Duration(static_cast<int64_t>(random.below(static_cast<uint64_t>((max - min).count()) + 1)));
}

void Simulator::block(SimNode& a, SimNode& b) {
  block_one_way(a, b);
  block_one_way(b, a);
}
void Simulator::block_one_way(SimNode& from, SimNode& to) {
  network_->block(from, to);
}
void Simulator::unblock(SimNode& a, SimNode& b) {
  network_->unblock(a, b);
  network_->unblock(b, a);
}
void Simulator::unblock_all() {
  network_->unblock_all();
}
void Simulator::reset_connections(SimNode& a, SimNode& b) {
  network_->reset_connections(a, b);
}

// ---- The node's loop

class SimNode::Loop final : public Executor, public Clock {
 public:
  explicit Loop(SimNode& node) : node_(node) {}

  void post(std::move_only_function<void()> fn) override {
    node_.schedule(Duration::zero(), Simulator::EventKind::kPost, "post", 0, std::move(fn));
  }
  bool on_loop() const override { return std::this_thread::get_id() == node_.simulator_.thread_; }

  TimePoint now() const override { return node_.local_time(node_.simulator_.now_); }
  WallTime wall() const override {
    Duration since_start = node_.simulator_.now_ - kStartOfTime + node_.options_.wall_error;
    return WallTime{kWallStartNs + since_start.count()};
  }

  TimerId call_at(TimePoint when, std::move_only_function<void()> fire) override {
    TimerId id = next_timer_++;
    if (!node_.running_) return id;
    Simulator::Event event{&node_, Simulator::EventKind::kTimer, "timer", id, {}, id};
    event.run = [this, id, fire = std::move(fire)]() mutable {
      timers_.erase(id);
      fire();
    };
    timers_.emplace(id, node_.simulator_.schedule(node_.true_time(when), std::move(event)));
    return id;
  }
  void cancel(TimerId timer) override {
    auto found = timers_.find(timer);
    if (found == timers_.end()) return;
    Simulator::Key key = found->second;
    timers_.erase(found);
    // Destroyed at the end of the scope: what it holds may cancel other timers.
    auto waiting = node_.simulator_.queue_.extract(key);
    auto deferred = node_.deferred_.extract(key);
  }

  void moved(TimerId timer, Simulator::Key key) { timers_[timer] = key; }
  void forget_all() { timers_.clear(); }

 private:
  SimNode& node_;
  TimerId next_timer_ = 1;
  std::unordered_map<TimerId, Simulator::Key> timers_;  // only looked up, never walked
};

// ---- Node

SimNode::SimNode(Simulator& simulator, std::string name, uint64_t index, SimNodeOptions options)
    : simulator_(simulator),
      name_(std::move(name)),
      index_(index),
      options_(options),
      machine_random_(make_seeded_random(simulator.seeds_->next_u64())),
      disk_(options.disk_bytes),
      metrics_(std::make_unique<Metrics>()),
      loop_(std::make_unique<Loop>(*this)),
      transport_(simulator.network_->make_transport(*this)) {
  random_ = make_seeded_random(machine_random_->next_u64());
  start_clock(1s, std::chrono::hours(24));
}

SimNode::~SimNode() = default;

Executor& SimNode::executor() {
  return *loop_;
}
Clock& SimNode::clock() {
  return *loop_;
}

std::unique_ptr<BlockingPool> SimNode::make_pool(std::string, size_t threads) {
  return std::make_unique<SimPool>(*this, threads);
}

std::string SimNode::boot_id() {
  return fmt::format("{}-boot-{}", name_, boots_);
}

// No two nodes' clocks agree, and a machine's starts again with it: times that are compared across either are a bug
// that shows.
void SimNode::start_clock(Duration at_least, Duration at_most) {
  clock_base_true_ = simulator_.now_;
  clock_base_local_ = TimePoint(Simulator::draw(*machine_random_, at_least, at_most));
}

namespace {
constexpr __int128 kMillion = 1'000'000;
}

TimePoint SimNode::local_time(TimePoint true_time) const {
  __int128 passed = (true_time - clock_base_true_).count();
  return clock_base_local_ + Duration(static_cast<int64_t>(passed * (kMillion + options_.drift_ppm) / kMillion));
}

TimePoint SimNode::true_time(TimePoint local) const {
  if (local <= clock_base_local_) return clock_base_true_;
  if (local == kNever) return kNever;
  // Rounded up: a timer never fires before its time on the node's own clock.
  __int128 passed = (local - clock_base_local_).count();
  __int128 rate = kMillion + options_.drift_ppm;
  __int128 ns = (passed * kMillion + rate - 1) / rate;
  __int128 room = (kNever - clock_base_true_).count();
  return clock_base_true_ + Duration(static_cast<int64_t>(std::min(ns, room)));
}

void SimNode::schedule(Duration delay, Simulator::EventKind kind, const char* label, uint64_t detail,
                       std::move_only_function<void()> run) {
  if (!running_) return;
  simulator_.schedule(simulator_.now_ + delay, Simulator::Event{this, kind, label, detail, std::move(run)});
}

void SimNode::start(Factory factory) {
  CHECK(!running_);
  if (factory) factory_ = std::move(factory);
  ++life_;
  running_ = true;
  random_ = make_seeded_random(machine_random_->next_u64());
  metrics_ = std::make_unique<Metrics>();
  tasks_ = std::make_unique<TaskGroup>(*loop_, *loop_);
  if (!powered_) {
    powered_ = true;
    start_clock(1s, 100s);
    simulator_.network_->back_again(*this);
  }
  schedule(Duration::zero(), Simulator::EventKind::kStart, "start", life_, [this] {
    if (factory_) program_ = factory_(*this);
  });
}

void SimNode::spawn(Task<void> task) {
  CHECK(running_);
  schedule(Duration::zero(), Simulator::EventKind::kPost, "spawn", 0,
           [this, task = std::move(task)]() mutable { tasks_->spawn(std::move(task)); });
}

void SimNode::crash(Crash kind) {
  CHECK(simulator_.current_ != this);
  simulator_.record(simulator_.now_, name_, Simulator::EventKind::kNote, "crash", static_cast<uint64_t>(kind));
  bool power = kind != Crash::kProcess;
  running_ = false;  // from here on nothing that is posted, timed or submitted is kept
  paused_ = false;
  simulator_.network_->crash(*this, power);
  for (SimPool* pool : pools_)
    pool->crash();
  loop_->forget_all();
  disk_.set_frozen(true);
  // Events first: what they own (permits, streams, promises) may refer to the program's objects, never the other way
  // round. Then the test's tasks, which may refer to the program.
  simulator_.take_events(*this).clear();
  tasks_.reset();
  program_.reset();
  CHECK(pools_.empty());  // a pool that survives its process was kept outside of the program
  disk_.set_frozen(false);
  if (!power) return;
  powered_ = false;
  ++boots_;
  disk_.crash(kind == Crash::kPowerKeepsPart ? machine_random_.get() : nullptr);
}

void SimNode::pause() {
  paused_ = true;
}

void SimNode::resume() {
  paused_ = false;
  auto deferred = std::exchange(deferred_, {});
  for (auto& [key, event] : deferred) {
    Clock::TimerId timer = event.timer;
    Simulator::Key moved = simulator_.schedule(simulator_.now_, std::move(event));
    if (timer != 0) loop_->moved(timer, moved);
  }
}

}  // namespace cairn
