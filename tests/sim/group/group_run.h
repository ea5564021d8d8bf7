// One run of a simulated group of masters. Internal to this folder; group_sim.h is what others call.
//
//   group_sim.cc         making the group, changing it, mending everything and checking
//   group_faults.cc      faults that are drawn one by one
//   group_situations.cc  several of them in an order that random draws reach too seldom
#pragma once

#include <fmt/format.h>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/runtime/sim_world.h"
#include "master/consensus/raft_message.h"
#include "tests/sim/group/group_master.h"
#include "tests/sim/group/group_sim.h"
#include "tests/sim/group/history.h"

namespace cairn {

class GroupSim {
 public:
  GroupSim(uint64_t seed, const GroupOptions& options);
  ~GroupSim();

  GroupResult run();

 private:
  struct Master {
    SimNode* node = nullptr;
    MasterId id;
    bool member = false;  // was added, and not removed since
    bool lost = false;    // its disk is; nobody starts it
  };

  // What a master says, with which one of the two loses power.
  enum class Moment : uint8_t {
    kAnything,
    kEntries,       // the sender of entries
    kEntriesHeard,  // their receiver
    kEntriesHeld,   // who confirms them
    kChange,        // the sender of a change of the group
    kVote,          // who has voted
  };
  struct PlannedCrash {
    Moment moment = Moment::kAnything;
    Master* victim = nullptr;  // null: anyone
    uint64_t skip = 0;         // so many such messages pass before
    bool unheard = false;      // that message and what the sender says until then are lost, and it takes longer
    bool under_way = false;
  };

  // Each that can say what is wrong returns it, or "".
  std::string play();
  bool grow();
  std::string heal_and_check();
  std::string trouble();
  std::string states();

  void prepare(Master& master, bool first);
  void start(Master& master);
  void start_all();
  GroupMaster* program(Master& master) {
    return master.node->running() && !master.node->paused() ? master.node->program<GroupMaster>() : nullptr;
  }
  ReplicatedLog* log(Master& master) {
    GroupMaster* running = program(master);
    return running != nullptr ? running->log() : nullptr;
  }
  bool leads(Master& master) { return log(master) != nullptr && log(master)->leading(); }
  Master* leader();
  Master* find(MasterId id);
  Master& any() { return masters_[random_.below(masters_.size())]; }
  Master& any_but(const Master& master);
  std::string address(const Master& master) const { return master.node->name() + ":9400"; }

  // Asks the leader of the moment until it has worked.
  bool change(const std::function<void(GroupMaster&, std::function<void(Result<void>)>)>& ask, Duration limit);
  bool add(Master& master, Duration limit);
  bool remove(Master& master, Duration limit);

  // Faults.
  std::string one_fault();
  void crash_one(Master& one);
  void cut(Master& one, Master& other);
  void pause_for_a_while(Master& one);
  void isolate(Master& one);
  std::string replace(Master& master);
  void crash_while_growing(size_t added);
  PlannedCrash draw_crash(Master& one);
  void crash_soon(PlannedCrash plan);
  void crash_planned(Master& victim, Crash kind);
  bool sent(Master& from, std::string_view bytes);
  bool crash_with(Master& from, const RaftMessage& message);

  // Situations.
  Master* settle();
  bool run_until_answered();
  void power_fails_around(Master& spared);
  void crash_when_answered();
  void forget_a_vote();
  std::string outdate_the_longest_log();
  void overtake_a_checkpoint();
  std::string come_back_at_the_edge();

  void tell(const std::string& what) const {
    if (options_.story)
      fmt::print("{:10.3f} {}\n", std::chrono::duration<double>(simulator_.now() - TimePoint{}).count(), what);
  }
  std::chrono::milliseconds up_to_ms(uint64_t most) { return std::chrono::milliseconds(random_.below(most)); }

  const GroupOptions& options_;
  Simulator simulator_;
  Random& random_;
  GroupHistory history_;
  std::vector<Master> masters_;
  bool working_ = true;
  bool lossy_ = false;
  bool rough_ = false;  // crashes while the group is made
  uint64_t trailing_entries_ = 0;
  std::optional<PlannedCrash> crash_;
  Master* deaf_ = nullptr;  // what is sent to it is lost
  // Of a situation: sees each message; false: it is lost.
  std::function<bool(Master& from, const RaftMessage&)> on_message_;
  uint64_t next_id_ = 1;
  uint64_t changes_ = 0;
};

}  // namespace cairn
