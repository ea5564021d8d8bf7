// WorkloadRun: what happens to a group of masters, and what must be so of it.
#include <algorithm>
#include <array>

#include "tests/sim/workload_run.h"

namespace cairn {

namespace {
constexpr uint64_t kWallJumpMaxS = 3600;
constexpr Duration kEqualWithin = 60s;
}  // namespace

std::optional<size_t> WorkloadRun::master_of(const SimNode& node) {
  for (size_t i = 0; i < cluster_.masters(); ++i) {
    if (&node == &cluster_.master(i)) return i;
  }
  return std::nullopt;
}

// The one that leads, often: the others are hardly missed.
SimNode& WorkloadRun::some_master() {
  if (!group()) return cluster_.master();
  std::vector<size_t> masters = cluster_.wanted_masters();
  size_t drawn = masters[random_->below(masters.size())];
  bool leading = random_->chance(1, 2);
  return cluster_.master(leading ? cluster_.leading_master().value_or(drawn) : drawn);
}

// ---------------------------------------------------------------- faults

void WorkloadRun::group_fault(uint32_t kind, Duration most) {
  size_t master = *master_of(some_master());
  SimNode& node = cluster_.master(master);
  ++result_.faults;
  switch (kind) {
    case kTransfer: {
      MasterServer* server = cluster_.master_server(master);
      MasterId to = server && server->open() ? server->log().status().master : MasterId();
      tell("fault: transfer to " + (to ? node.name() : "any"));
      cluster_.administrator().spawn(hand_over(to));
      return;
    }
    case kMembers:
      return change_members();
    case kIsolate:
      return isolate(master, most);
    case kWall: {
      SimNode& any = any_node(true);
      int64_t seconds = static_cast<int64_t>(random_->below(2 * kWallJumpMaxS)) - static_cast<int64_t>(kWallJumpMaxS);
      tell(fmt::format("fault: wall {} {} s", any.name(), seconds));
      return any.shift_wall(std::chrono::seconds(seconds));
    }
    case kKillMost:
      return kill_most(most);
    default:
      return stop_master(master, most);
  }
}

Task<void> WorkloadRun::hand_over(MasterId to) {
  co_await cluster_.transfer_leadership(to);
}

// From the other masters, or from everybody; and not always in both directions.
void WorkloadRun::isolate(size_t master, Duration most) {
  SimNode& alone = cluster_.master(master);
  bool from_all = random_->chance(1, 2);
  uint64_t direction = random_->below(3);
  static constexpr std::array<std::string_view, 3> kDirections = {"both ways", "does not reach", "is not reached by"};
  std::vector<SimNode*> others;
  for (size_t i = 0; i < cluster_.masters(); ++i) {
    if (i != master) others.push_back(&cluster_.master(i));
  }
  for (size_t i = 0; from_all && i < cluster_.servers(); ++i)
    others.push_back(&cluster_.server(i));
  for (size_t i = 0; from_all && i < cluster_.mounts(); ++i)
    others.push_back(&cluster_.mount_node(i));
  if (from_all) others.push_back(&cluster_.administrator());
  tell(fmt::format("fault: isolate {}, {} {}", alone.name(), kDirections[direction], from_all ? "all" : "masters"));
  for (SimNode* other : others) {
    if (direction != 2) cluster_.simulator().block_one_way(alone, *other);
    if (direction != 1) cluster_.simulator().block_one_way(*other, alone);
  }
  TimePoint when = cluster_.simulator().now() + some_time(most);
  calm_at_ = std::max(calm_at_, when);
  later_.emplace(when, [this, &alone, others] {
    tell("unblocked: " + alone.name());
    for (SimNode* other : others)
      cluster_.simulator().unblock(alone, *other);
  });
}

// So many that nobody can lead until some are back.
void WorkloadRun::kill_most(Duration most) {
  std::vector<size_t> masters = cluster_.wanted_masters();
  size_t quorum = masters.size() / 2 + 1;
  size_t count = quorum + random_->below(masters.size() - quorum + 1);
  constexpr std::array<Crash, 3> kKinds = {Crash::kProcess, Crash::kPower, Crash::kPowerKeepsPart};
  Crash kind = kKinds[random_->below(kKinds.size())];
  for (size_t left = count; left > 0; --left) {
    size_t drawn = random_->below(masters.size());
    SimNode& node = cluster_.master(masters[drawn]);
    masters.erase(masters.begin() + static_cast<ptrdiff_t>(drawn));
    if (!node.running() || node.paused() || ill_.contains(&node)) continue;
    tell(fmt::format("fault: kill-most {} {}", node.name(), kind == Crash::kProcess ? "killed" : "power cut"));
    crash(node, kind);
    restart_later(node, some_time(most));
  }
}

void WorkloadRun::stop_master(size_t master, Duration most) {
  SimNode& node = cluster_.master(master);
  if (!node.running() || node.paused() || ill_.contains(&node)) return;
  tell("fault: stop-master " + node.name());
  cluster_.stop_master(master);
  stopping_.insert(&node);
  restart_later(node, 2s + some_time(most));
}

// ---------------------------------------------------------------- who is a master

// The other faults go on meanwhile.
void WorkloadRun::change_members() {
  if (changing_) return;
  std::optional<size_t> old = master_of(some_master());
  size_t fresh = *old;
  for (size_t i = 0; i < cluster_.masters(); ++i) {
    if (!cluster_.wanted(i) && random_->chance(1, 2)) fresh = i;
  }
  bool dead = random_->chance(1, 2);
  tell(fmt::format("fault: members, {} {} for {}", cluster_.master(*old).name(),
                   dead ? "whose disk is lost" : "at work", cluster_.master(fresh).name()));
  changing_ = true;
  cluster_.administrator().spawn(replace_master(*old, fresh, dead));
}

Task<void> WorkloadRun::replace_master(size_t old, size_t fresh, bool dead) {
  if (dead) cluster_.wipe_master(old);
  co_await cluster_.remove_master(old);
  tell("removed: " + cluster_.master(old).name());
  co_await sleep_on(cluster_.administrator(), some_time(2s));
  // The old one may still run, and know nothing of it.
  if (cluster_.master(fresh).paused()) cluster_.master(fresh).resume();
  cluster_.wipe_master(fresh);
  co_await cluster_.add_master(fresh);
  tell("added: " + cluster_.master(fresh).name());
  ++result_.changes;
  changing_ = false;
}

// ---------------------------------------------------------------- what must be so

bool WorkloadRun::masters_are_open() {
  if (!group()) return cluster_.master_server() != nullptr;
  std::vector<size_t> masters = cluster_.wanted_masters();
  return cluster_.leading_master() && std::ranges::all_of(masters, [this](size_t i) {
           MasterServer* server = cluster_.master_server(i);
           // One that is being added has no log yet.
           return server && (server->open() || changing_);
         });
}

// Equal logs give equal states, byte by byte, on whichever master.
void WorkloadRun::compare_states() {
  for (size_t i = 0; i < cluster_.masters() && !failed(); ++i) {
    MasterServer* server = cluster_.master_server(i);
    if (!server || !server->open()) continue;
    Result<uint64_t> hash = server->machine().state_hash();
    if (!hash) return fail(cluster_.master(i).name() + ": " + hash.error().message());
    uint64_t index = server->machine().applied_index();
    auto [known, fresh] = states_.emplace(index, *hash);
    if (!fresh && known->second != *hash)
      fail(fmt::format("{} has another state than others after entry {}", cluster_.master(i).name(), index));
  }
}

std::string WorkloadRun::masters_said() {
  std::string all;
  for (size_t i : cluster_.wanted_masters()) {
    MasterServer* server = cluster_.master_server(i);
    all += " " + cluster_.master(i).name();
    if (!server || !server->open()) {
      all += "=not open";
      continue;
    }
    LogStatus log = server->log().status();
    all += fmt::format("=[term {} leading {} first {} last {} committed {} applied {}]", log.term, log.leading,
                       log.first, log.last, log.committed, log.applied);
  }
  return all;
}

bool WorkloadRun::masters_become_equal() {
  auto equal = [this] {
    std::optional<size_t> leading = cluster_.leading_master();
    if (!leading) return false;
    uint64_t last = cluster_.master_server(*leading)->log().status().last;
    return std::ranges::all_of(cluster_.wanted_masters(), [&](size_t i) {
      MasterServer* server = cluster_.master_server(i);
      return server && server->open() && server->machine().applied_index() == last;
    });
  };
  if (!cluster_.simulator().run_until(equal, kEqualWithin)) return false;
  compare_states();
  return true;
}

}  // namespace cairn
