#include "tests/sim/group/group_sim.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "tests/sim/group/group_run.h"

namespace cairn {

namespace {
constexpr ClusterId kCluster{0xC1};
constexpr Duration kHealed = std::chrono::seconds(60);  // everything is well again so long after the last fault

// Disks that are faster than the network, and slower.
SimOptions simulation(uint64_t seed) {
  return {.pool_max = std::chrono::microseconds(seed % 3 == 0 ? 200 : 2000), .pool_works_late = true};
}
}  // namespace

GroupSim::GroupSim(uint64_t seed, const GroupOptions& options)
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
  trailing_entries_ = random_.chance(1, 2) ? 30 : 5;
}

GroupSim::~GroupSim() {
  for (Master& master : masters_) {
    if (master.node->running()) master.node->crash(Crash::kProcess);
  }
}

GroupResult GroupSim::run() {
  GroupResult result;
  result.failure = play();
  if (!result.failure.empty() && !history_.failure().empty()) result.failure = history_.failure();
  result.commands = history_.done();
  result.reads = history_.reads();
  result.changes = changes_;
  result.simulated = simulator_.now() - TimePoint{};
  result.events = simulator_.events();
  result.trace_hash = simulator_.trace_hash();
  return result;
}

void GroupSim::prepare(Master& master, bool first) {
  master.id = MasterId(0xA0 + next_id_++);
  Result<void> made =
      first ? initialise_master_folder(master.node->memory_disk(), "/master", kCluster, master.id, address(master))
            : initialise_joining_folder(master.node->memory_disk(), "/master", kCluster, master.id, address(master));
  CHECK(made);
  history_.forget(address(master));
  master.member = first;
}

// Unless it runs already: several faults may have wanted it back.
void GroupSim::start(Master& master) {
  if (master.node->running()) return;
  GroupMasterSettings settings;
  settings.address = address(master);
  settings.log.folder = "/master";
  settings.log.cluster = kCluster;
  settings.log.segment_size_bytes = 1 * kMiB;
  settings.log.trailing_entries = trailing_entries_;  // so that a checkpoint is needed now and then
  settings.log.checkpoint_log_bytes = 256 * kMiB;
  settings.log.reserve_bytes = 1 * kMiB;
  if (lossy_) {
    settings.lost = 10;
    settings.twice = 10;
    settings.late = 10;
  }
  settings.on_send = [this, &master](std::string_view message) { return sent(master, message); };
  master.node->start([this, settings](World& world) {
    return std::make_shared<GroupMaster>(world, simulator_, history_, settings, working_);
  });
}

void GroupSim::start_all() {
  for (Master& master : masters_) {
    if (!master.node->running()) start(master);
  }
}

GroupSim::Master* GroupSim::find(MasterId id) {
  auto found = std::ranges::find(masters_, id, &Master::id);
  return found == masters_.end() ? nullptr : &*found;
}

GroupSim::Master& GroupSim::any_but(const Master& master) {
  size_t place = random_.below(masters_.size() - 1);
  return masters_[place < static_cast<size_t>(&master - masters_.data()) ? place : place + 1];
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
      simulator_.run_until([&] { return answer->has_value() || program(*leads) == nullptr; },
                           deadline - simulator_.now());
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
    all += fmt::format(
        "[id {} term {} leading {} leader {} first {} last {} committed {} applied {} checkpoint {} member {} hash "
        "{:x}] ",
        to_string(s.master), s.term, s.leading, to_string(s.leader), s.first, s.last, s.committed, s.applied,
        s.checkpoint, s.member, running->machine().hash());
    if (!s.leading) continue;
    for (const GroupMember& member : running->log()->members())
      all += fmt::format("({} role {} match {} silent {} ms) ", member.address, static_cast<int>(member.role),
                         member.match, member.silent_ms);
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
    if (rough_) crash_while_growing(i);
    if (!add(masters_[i], 60s)) return false;
  }
  return true;
}

std::string GroupSim::heal_and_check() {
  tell("heal");
  crash_.reset();
  deaf_ = nullptr;
  simulator_.unblock_all();
  start_all();
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
    std::string wrong = one_fault();
    if (std::string worse = trouble(); !worse.empty()) return worse;
    if (!wrong.empty()) return wrong;
  }
  return heal_and_check();
}

GroupResult run_group_seed(uint64_t seed, const GroupOptions& options) {
  return GroupSim(seed, options).run();
}

}  // namespace cairn
