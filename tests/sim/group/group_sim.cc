#include "tests/sim/group/group_sim.h"

#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "tests/sim/group/group_master.h"

namespace cairn {

namespace {

constexpr ClusterId kCluster{0xC1};
constexpr Duration kHealed = std::chrono::seconds(60);  // everything is well again so long after the last fault

class GroupSim {
 public:
  GroupSim(uint64_t seed, const GroupOptions& options)
      : options_(options), simulator_(seed, simulation(seed)), random_(simulator_.random()) {
    for (size_t i = 0; i < options.masters; ++i) {
      SimNodeOptions node;
      node.drift_ppm = static_cast<int64_t>(random_.below(2001)) - 1000;
      node.wall_error = std::chrono::milliseconds(random_.below(20'000));
      Master master;
      master.node = &simulator_.add_node("m" + std::to_string(i), node);
      masters_.push_back(master);
    }
    lossy_ = random_.chance(1, 2);
    rough_ = random_.chance(1, 2);
  }
  ~GroupSim() {
    for (Master& master : masters_) {
      if (master.node->running()) master.node->crash(Crash::kProcess);
    }
  }

  GroupResult run() {
    GroupResult result;
    result.failure = play();
    if (!result.failure.empty() && !history_.failure().empty()) result.failure = history_.failure();
    result.commands = history_.done();
    result.reads = history_.reads();
    result.changes = changes_;
    result.replaced = replaced_;
    result.simulated = simulator_.now() - TimePoint{};
    result.events = simulator_.events();
    result.trace_hash = simulator_.trace_hash();
    return result;
  }

 private:
  // Disks that are faster than the network, and slower.
  static SimOptions simulation(uint64_t seed) {
    return {.pool_max = std::chrono::microseconds(seed % 3 == 0 ? 200 : 2000), .pool_works_late = true};
  }

  struct Master {
    SimNode* node = nullptr;
    MasterId id;
    bool member = false;  // was added, and not removed since
    bool lost = false;    // its disk is; nobody starts it
  };

  std::string play();
  bool grow();
  void one_fault();
  std::string heal_and_check();

  void prepare(Master& master, bool first);
  void start(Master& master);
  GroupMaster* program(Master& master) {
    return master.node->running() && !master.node->paused() ? master.node->program<GroupMaster>() : nullptr;
  }
  Master* leader();
  Master& any() { return masters_[random_.below(masters_.size())]; }
  std::string address(const Master& master) const { return master.node->name() + ":9400"; }
  // Asks the leader of the moment until it has worked.
  bool change(const std::function<void(GroupMaster&, std::function<void(Result<void>)>)>& ask, Duration limit);
  bool add(Master& master, Duration limit);
  bool remove(Master& master, Duration limit);
  void replace(Master& master);
  void power_fails_around(Master& spared);
  void crash_soon(Master& master);
  void sent(Master& from);
  std::string trouble();
  std::string states();
  void tell(const std::string& what) const {
    if (options_.story) fmt::print("{:10.3f} {}\n", std::chrono::duration<double>(simulator_.now() - TimePoint{}).count(), what);
  }

  const GroupOptions& options_;
  Simulator simulator_;
  Random& random_;
  GroupHistory history_;
  std::vector<Master> masters_;
  bool working_ = true;
  bool lossy_ = false;
  bool rough_ = false;              // crashes while the group is made
  Master* about_to_crash_ = nullptr;  // with the next message that it sends
  uint64_t next_id_ = 1;
  uint64_t changes_ = 0;
  uint64_t replaced_ = 0;
};

void GroupSim::prepare(Master& master, bool first) {
  master.id = MasterId(0xA0 + next_id_++);
  Result<void> made = first ? initialise_master_folder(master.node->memory_disk(), "/master", kCluster, master.id, address(master))
                            : initialise_joining_folder(master.node->memory_disk(), "/master", kCluster, master.id, address(master));
  CHECK(made);
  master.member = first;
}

void GroupSim::start(Master& master) {
  GroupMasterSettings settings;
  settings.address = address(master);
  settings.log.folder = "/master";
  settings.log.cluster = kCluster;
  settings.log.segment_size_bytes = 1 * kMiB;
  settings.log.trailing_entries = 30;  // so that a checkpoint is needed now and then
  settings.log.checkpoint_log_bytes = 256 * kMiB;
  settings.log.reserve_bytes = 1 * kMiB;
  if (lossy_) {
    settings.lost = 10;
    settings.twice = 10;
    settings.late = 10;
  }
  settings.on_send = [this, &master](std::string_view) {
    sent(master);
    return true;
  };
  master.node->start([this, settings](World& world) {
    return std::make_shared<GroupMaster>(world, simulator_, history_, settings, working_);
  });
}

GroupSim::Master* GroupSim::leader() {
  Master* found = nullptr;
  for (Master& master : masters_) {
    GroupMaster* running = program(master);
    if (running == nullptr || running->log() == nullptr || !running->log()->leading()) continue;
    // Of two the one with the higher term is the real one.
    if (found == nullptr || running->log()->term() > program(*found)->log()->term()) found = &master;
  }
  return found;
}

bool GroupSim::change(const std::function<void(GroupMaster&, std::function<void(Result<void>)>)>& ask, Duration limit) {
  TimePoint deadline = simulator_.now() + limit;
  while (simulator_.now() < deadline) {
    auto answer = std::make_shared<std::optional<Result<void>>>();
    if (Master* leads = leader()) {
      ask(*program(*leads), [answer](Result<void> result) { answer->emplace(std::move(result)); });
      simulator_.run_until([&] { return answer->has_value() || program(*leads) == nullptr; }, deadline - simulator_.now());
      if (answer->has_value() && (*answer)->has_value()) {
        ++changes_;
        return true;
      }
    }
    simulator_.run_for(200ms);
    if (!trouble().empty()) return false;
  }
  return false;
}

bool GroupSim::add(Master& master, Duration limit) {
  bool added = change([&](GroupMaster& at, auto done) { at.add(master.id, address(master), done); }, limit);
  master.member |= added;
  return added;
}

bool GroupSim::remove(Master& master, Duration limit) {
  bool removed = change([&](GroupMaster& at, auto done) { at.remove(master.id, done); }, limit);
  if (removed) master.member = false;
  return removed;
}

std::string GroupSim::trouble() {
  if (!history_.failure().empty()) return history_.failure();
  for (Master& master : masters_) {
    GroupMaster* running = program(master);
    if (running != nullptr && running->error())
      return fmt::format("{}: {}", master.node->name(), running->error()->message());
  }
  return {};
}

std::string GroupSim::states() {
  std::string all;
  for (Master& master : masters_) {
    GroupMaster* running = program(master);
    all += master.node->name() + "=";
    if (running == nullptr || running->log() == nullptr) {
      all += "away ";
      continue;
    }
    LogStatus s = running->log()->status();
    all += fmt::format("[id {} term {} leading {} leader {} first {} last {} committed {} applied {} checkpoint {} member {} hash {:x}] ",
                       to_string(s.master), s.term, s.leading, to_string(s.leader), s.first, s.last, s.committed, s.applied, s.checkpoint, s.member,
                       running->machine().hash());
    if (!s.leading) continue;
    for (const GroupMember& member : running->log()->members())
      all += fmt::format("({} role {} match {} silent {} ms) ", member.address, static_cast<int>(member.role), member.match, member.silent_ms);
  }
  return all;
}

bool GroupSim::grow() {
  prepare(masters_[0], true);
  start(masters_[0]);
  simulator_.run_for(2s);
  for (size_t i = 1; i < masters_.size(); ++i) {
    // Now and then with a log that is too short for it.
    if (random_.chance(1, 2)) {
      simulator_.run_for(5s);
      if (GroupMaster* first = program(masters_[0])) first->checkpoint();
      simulator_.run_for(1s);
      if (GroupMaster* first = program(masters_[0])) first->checkpoint();
    }
    prepare(masters_[i], false);
    start(masters_[i]);
    simulator_.run_for(500ms);
    if (rough_) {
      for (uint64_t crashes = random_.below(4); crashes > 0; --crashes) {
        Master& victim = masters_[random_.below(i + 1)];
        uint64_t within_ms = i == 1 ? 300 : 1500;  // the first has a group to itself for so long
        simulator_.after(std::chrono::milliseconds(random_.below(within_ms)), [this, &victim] { crash_soon(victim); });
      }
    }
    if (!add(masters_[i], 60s)) return false;
  }
  return true;
}

// With loss of power, in the moment after it has sent something: what it said of its disk must be so. Comes back soon.
void GroupSim::crash_soon(Master& master) {
  if (about_to_crash_ == nullptr) about_to_crash_ = &master;
}

void GroupSim::sent(Master& from) {
  if (about_to_crash_ != &from) return;
  simulator_.after(std::chrono::microseconds(random_.below(400)), [this, &from] {
    about_to_crash_ = nullptr;
    if (!from.node->running()) return;
    tell("crash " + from.node->name() + " with a message under way");
    from.node->crash(random_.chance(3, 4) ? Crash::kPower : Crash::kPowerKeepsPart);
    simulator_.after(std::chrono::milliseconds(random_.below(1500)), [this, &from] {
      if (!from.node->running() && !from.lost) start(from);
    });
  });
}

// One is cut off; the others lose power just when one of them has acknowledged something. Then the leader stays away,
// and the one that was spared decides with those that have lost something.
void GroupSim::power_fails_around(Master& spared) {
  Master* leads = leader();
  if (leads == nullptr || leads == &spared) return;
  tell("power fails around " + spared.node->name());
  for (Master& master : masters_) {
    if (&master != &spared) simulator_.block(*spared.node, *master.node);
  }
  simulator_.run_for(std::chrono::milliseconds(random_.below(100)));
  uint64_t before = history_.done();
  simulator_.run_until([&] { return history_.done() > before; }, 2s);
  for (Master& master : masters_) {
    if (&master != &spared && master.node->running()) master.node->crash(Crash::kPower);
  }
  simulator_.unblock_all();
  for (Master& master : masters_) {
    if (&master != leads && !master.node->running()) start(master);
  }
}

// A disk is lost for good: the master is removed, and comes back with an empty folder and another id.
void GroupSim::replace(Master& master) {
  tell("replace " + master.node->name());
  if (master.node->running()) master.node->crash(Crash::kPower);
  master.lost = true;
  bool removed = remove(master, 20s);
  master.lost = false;
  if (!removed) return start(master);
  CHECK(master.node->memory_disk().remove_tree("/master"));
  CHECK(master.node->memory_disk().sync_folder("/"));  // no loss of power brings the old one back
  prepare(master, false);
  start(master);
  add(master, 60s);
}

void GroupSim::one_fault() {
  Master& one = any();
  Master& other = any();
  switch (random_.below(14)) {
    case 0:
    case 1: {
      static constexpr Crash kinds[] = {Crash::kProcess, Crash::kPower, Crash::kPowerKeepsPart};
      Crash kind = kinds[random_.below(3)];
      Master* victim = random_.chance(1, 2) ? leader() : &one;
      if (victim == nullptr || !victim->node->running()) break;
      tell(fmt::format("crash {} {}", victim->node->name(), static_cast<int>(kind)));
      victim->node->crash(kind);
      break;
    }
    case 2:
      for (Master& master : masters_) {
        if (!master.node->running()) start(master);
      }
      break;
    case 3:
      if (!one.node->running() || one.node->paused()) break;
      tell("pause " + one.node->name());
      one.node->pause();
      simulator_.run_for(std::chrono::milliseconds(random_.below(3000)));
      one.node->resume();
      break;
    case 4:
      if (&one == &other) break;
      tell(fmt::format("cut {} {}", one.node->name(), other.node->name()));
      simulator_.block(*one.node, *other.node);
      break;
    case 5:
      if (&one == &other) break;
      tell(fmt::format("cut one way {} {}", one.node->name(), other.node->name()));
      simulator_.block_one_way(*one.node, *other.node);
      break;
    case 6:
      tell("isolate " + one.node->name());
      for (Master& master : masters_) {
        if (&master != &one) simulator_.block(*one.node, *master.node);
      }
      break;
    case 7:
      tell("unblock");
      simulator_.unblock_all();
      break;
    case 8:
      if (&one != &other) simulator_.reset_connections(*one.node, *other.node);
      break;
    case 9:
      if (GroupMaster* running = program(one)) running->checkpoint();
      break;
    case 10:
      if (Master* leads = leader()) {
        tell("transfer");
        program(*leads)->transfer(random_.chance(1, 2) ? one.id : MasterId());
      }
      break;
    case 11:
      // A group of which too many are away at the moment waits for that in vain: it is tried, and given up.
      if (random_.chance(1, 3)) {
        simulator_.unblock_all();
        for (Master& master : masters_) {
          if (!master.node->running()) start(master);
        }
        simulator_.run_for(3s);
        replace(one);
      }
      break;
    case 12:
      crash_soon(one);
      break;
    case 13:
      power_fails_around(one);
      break;
  }
}

std::string GroupSim::heal_and_check() {
  tell("heal");
  about_to_crash_ = nullptr;
  simulator_.unblock_all();
  for (Master& master : masters_) {
    if (!master.node->running()) start(master);
  }
  simulator_.run_for(5s);
  for (Master& master : masters_) {
    if (!master.member && !add(master, kHealed)) {
      std::string wrong = trouble();
      return wrong.empty() ? master.node->name() + " cannot be added any more" : wrong;
    }
  }
  uint64_t before = history_.done();
  bool lives = simulator_.run_until([&] { return history_.done() > before + 5 || !trouble().empty(); }, kHealed);
  if (std::string wrong = trouble(); !wrong.empty()) return wrong;
  if (!lives) return "nothing is acknowledged any more although everything is well";
  working_ = false;
  bool equal = simulator_.run_until(
      [&] {
        if (!trouble().empty()) return true;
        Master* leads = leader();
        if (leads == nullptr) return false;
        uint64_t applied = program(*leads)->log()->status().last;
        return std::ranges::all_of(masters_, [&](Master& master) {
          GroupMaster* running = program(master);
          return running != nullptr && running->log() != nullptr && running->log()->status().applied >= applied &&
                 running->machine().hash() == program(*leads)->machine().hash();
        });
      },
      kHealed);
  if (std::string wrong = trouble(); !wrong.empty()) return wrong;
  if (!equal) return "the masters do not become equal although everything is well: " + states();
  return history_.check(program(masters_[0])->machine().commands());
}

std::string GroupSim::play() {
  if (!grow()) {
    std::string wrong = trouble();
    return wrong.empty() ? "the group could not be made" : wrong;
  }
  for (uint32_t i = 0; i < options_.faults; ++i) {
    simulator_.run_for(std::chrono::milliseconds(random_.below(1500)));
    one_fault();
    if (std::string wrong = trouble(); !wrong.empty()) return wrong;
  }
  return heal_and_check();
}

}  // namespace

GroupResult run_group_seed(uint64_t seed, const GroupOptions& options) {
  return GroupSim(seed, options).run();
}

}  // namespace cairn
