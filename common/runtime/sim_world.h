// The simulated world: many nodes (processes with a machine each) in one process, on simulated time, network and disks,
// driven by one seed.
//
//   Simulator simulator(seed);
//   SimNode& master = simulator.add_node("master");
//   master.start([](World& world) { return std::make_shared<Master>(world); });
//   CHECK(simulator.run_until([&] { return done; }, 60s));
//
// Everything that happens is an event, ordered by (time, sequence); the same seed and the same calls give the same
// trace, event by event (trace_hash()). Nothing in it depends on addresses of memory, on unordered containers or on the
// real clock; programs must keep to that too.
//
// One thread. The Simulator owns its nodes; everything that programs hold of a World is gone before the Simulator is.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/runtime/memory_disk.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"

namespace cairn {

class SimNetwork;
class SimNode;
class SimPool;

struct SimOptions {
  // One way; now and then (1 in 64) ten times as long.
  Duration latency_min = std::chrono::microseconds(50);
  Duration latency_max = std::chrono::microseconds(500);
  uint64_t bytes_per_second = 0;  // of a connection, each way; zero: as much as one likes
  // What a pool adds to the cost that the disk names (DiskSpeed).
  Duration pool_min = std::chrono::microseconds(10);
  Duration pool_max = std::chrono::microseconds(200);
  // That time passes before the work instead of after it: what a program says meanwhile is said before it is on disk,
  // and a crash finds it there.
  bool pool_works_late = false;
  // Called with a line for each event, for people.
  std::function<void(std::string_view)> trace;
};

struct SimNodeOptions {
  uint64_t disk_bytes = 1ull << 40;
  // The clock's error: it gains so many microseconds a second. Where it starts is drawn from the seed.
  int64_t drift_ppm = 0;
  Duration wall_error = Duration::zero();
};

enum class Crash {
  kProcess,         // kill -9: the disk keeps what was written
  kPower,           // everything that was not synced is lost; the boot id changes
  kPowerKeepsPart,  // a random part of it is kept; the boot id changes
};

class Simulator {
 public:
  explicit Simulator(uint64_t seed, SimOptions options = {});
  ~Simulator();
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;

  // Its name is its host name on the network. Lives as long as the Simulator.
  SimNode& add_node(const std::string& name, SimNodeOptions options = {});
  SimNode* find_node(const std::string& name);

  // Runs the next event; false if there is none.
  bool step();
  // Runs events until the condition holds (asked before each); false when `limit` of simulated time has passed, or
  // nothing is left to happen.
  bool run_until(const std::function<bool()>& condition, Duration limit);
  void run_for(Duration duration);
  // Runs `fn` as an event of nobody's: what a test does to the world at a certain time.
  void after(Duration delay, std::move_only_function<void()> fn);

  TimePoint now() const { return now_; }  // true time, which no node sees
  Random& random() { return *random_; }   // for the test's own choices
  const SimOptions& options() const { return options_; }

  // Nothing passes from one to the other. TCP gives up on it after 15 to 19 s.
  void block(SimNode& a, SimNode& b);
  void block_one_way(SimNode& from, SimNode& to);
  void unblock(SimNode& a, SimNode& b);
  void unblock_all();
  // Every connection between the two breaks, for both, at once.
  void reset_connections(SimNode& a, SimNode& b);

  uint64_t trace_hash() const { return trace_hash_; }
  uint64_t events() const { return events_run_; }
  // Puts a remark of the test or of the program into the trace.
  void note(std::string_view text, uint64_t number = 0);

 private:
  friend class SimNetwork;
  friend class SimNode;
  friend class SimPool;

  enum class EventKind : uint8_t { kPost, kTimer, kPool, kNetwork, kStart, kTest, kNote };
  using Key = std::pair<TimePoint, uint64_t>;
  struct Event {
    SimNode* node;  // whose program it belongs to: it waits while that is paused, and is gone when that crashes. None:
                    // the world's
    EventKind kind;
    const char* label;
    uint64_t detail = 0;
    std::move_only_function<void()> run;
    Clock::TimerId timer = 0;
  };

  Key schedule(TimePoint when, Event event);
  void record(TimePoint when, std::string_view node, EventKind kind, std::string_view label, uint64_t detail);
  // Takes out the events of the node's program.
  std::vector<Event> take_events(SimNode& node);
  static Duration draw(Random& random, Duration min, Duration max);

  SimOptions options_;
  std::thread::id thread_ = std::this_thread::get_id();
  std::unique_ptr<Random> random_;  // the test's
  std::unique_ptr<Random> seeds_;   // what everything else is seeded from
  TimePoint now_{std::chrono::seconds(1000)};
  uint64_t next_sequence_ = 1;
  std::map<Key, Event> queue_;
  uint64_t events_run_ = 0;
  uint64_t events_at_this_time_ = 0;
  uint64_t trace_hash_ = 0;
  SimNode* current_ = nullptr;  // whose event runs
  std::unique_ptr<SimNetwork> network_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
};

class SimNode final : public World {
 public:
  // Builds the program: all that the process holds. It is destroyed by crash().
  using Factory = std::function<std::shared_ptr<void>(World&)>;

  ~SimNode() override;

  Executor& executor() override;
  Clock& clock() override;
  Random& random() override { return *random_; }
  Disk& disk() override { return disk_; }
  Transport& transport() override { return *transport_; }
  Metrics& metrics() override { return *metrics_; }
  std::unique_ptr<BlockingPool> make_pool(std::string name, size_t threads) override;
  std::string boot_id() override;

  const std::string& name() const { return name_; }
  MemoryDisk& memory_disk() { return disk_; }
  Simulator& simulator() { return simulator_; }

  // Starts the process; the factory runs as its first event. Without a factory the one of the last start, and if there
  // was none, a process that only has spawned tasks.
  void start(Factory factory = {});
  bool running() const { return running_; }
  // What the factory made; null before it ran and after a crash.
  template <class T>
  T* program() {
    return static_cast<T*>(program_.get());
  }
  // Runs a task on this node beside its program (a test's driver); destroyed with it. The node must be running.
  void spawn(Task<void> task);
  // Ends the process here and now: its posts, timers and completions never happen, its objects are destroyed, its
  // connections break as the kind of crash has it. Not from inside one of its own events.
  void crash(Crash kind);
  // SIGSTOP and SIGCONT: no event of the program runs meanwhile. Its kernel still takes connections and bytes.
  void pause();
  void resume();
  bool paused() const { return paused_; }
  // Somebody sets the wall clock: it is so much later (or earlier) at once. Timers do not see it.
  void shift_wall(Duration by) { options_.wall_error += by; }

 private:
  friend class Simulator;
  friend class SimNetwork;
  friend class SimPool;
  class Loop;  // its Executor and Clock

  SimNode(Simulator& simulator, std::string name, uint64_t index, SimNodeOptions options);
  TimePoint local_time(TimePoint true_time) const;
  TimePoint true_time(TimePoint local) const;
  // Schedules an event of the program; dropped if there is none.
  void schedule(Duration delay, Simulator::EventKind kind, const char* label, uint64_t detail,
                std::move_only_function<void()> run);
  void start_clock(Duration at_least, Duration at_most);

  Simulator& simulator_;
  std::string name_;
  uint64_t index_;
  SimNodeOptions options_;
  uint64_t boots_ = 1;
  uint64_t life_ = 0;     // counts starts of the process
  bool running_ = false;  // between start and crash
  bool paused_ = false;
  bool powered_ = true;          // false between a power crash and the next start
  TimePoint clock_base_true_{};  // when the machine started, by true time and by its own
  TimePoint clock_base_local_{};
  Factory factory_;
  std::unique_ptr<Random> random_;          // the program's, a new one each life
  std::unique_ptr<Random> machine_random_;  // what its disk loses, how its clock starts, how long its pools take
  MemoryDisk disk_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Transport> transport_;
  std::map<Simulator::Key, Simulator::Event> deferred_;  // what came while it was paused
  std::vector<SimPool*> pools_;                          // in the order of making
  std::shared_ptr<void> program_;
  std::unique_ptr<TaskGroup> tasks_;
};

}  // namespace cairn
