// Faults that are drawn one by one.
#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "tests/sim/group/group_run.h"

namespace cairn {

// ---------------------------------------------------------------- crashes with a message under way

void GroupSim::crash_soon(PlannedCrash plan) {
  if (!crash_) crash_ = plan;
}

GroupSim::PlannedCrash GroupSim::draw_crash(Master& one) {
  PlannedCrash plan;
  plan.moment = static_cast<Moment>(random_.below(6));
  // A certain master says nothing of most kinds for long.
  if (plan.moment == Moment::kAnything || random_.chance(1, 4)) plan.victim = &one;
  plan.skip = random_.below(6);
  plan.unheard = random_.chance(1, 4);
  return plan;
}

// Either at any time, or while the new master gets the log or the change that makes it a voter: what only the leader
// knows, and what only the new master knows.
void GroupSim::crash_while_growing(size_t added) {
  switch (random_.below(3)) {
    case 0:
      crash_soon({.moment = Moment::kEntries, .skip = random_.below(12)});
      break;
    case 1:
      crash_soon({.moment = Moment::kChange, .skip = random_.below(3), .unheard = random_.chance(1, 2)});
      break;
    default:
      for (uint64_t crashes = random_.below(4); crashes > 0; --crashes) {
        Master& victim = masters_[random_.below(added + 1)];
        uint64_t within_ms = added == 1 ? 300 : 1500;  // the first has a group to itself for so long
        simulator_.after(up_to_ms(within_ms), [this, &victim] { crash_soon({.victim = &victim}); });
      }
  }
}

bool GroupSim::sent(Master& from, std::string_view bytes) {
  if (!crash_ && !on_message_ && deaf_ == nullptr) return true;
  Result<RaftMessage> message = decode_raft_message(bytes);
  CHECK(message);
  bool passes = deaf_ == nullptr || message->to != deaf_->id;
  if (crash_ && !crash_with(from, *message)) passes = false;
  if (on_message_ && !on_message_(from, *message)) passes = false;
  return passes;
}

// With loss of power, in the moment after it has sent something, or heard it: what it said of its disk must be so.
bool GroupSim::crash_with(Master& from, const RaftMessage& message) {
  PlannedCrash& plan = *crash_;
  if (plan.under_way) return !plan.unheard || plan.victim != &from;
  bool entries = message.core.type == CAIRN_RAFT_MESSAGE_APPEND_ENTRIES && !message.entries.empty();
  bool result = message.core.type == CAIRN_RAFT_MESSAGE_APPEND_ENTRIES_RESULT;
  bool vote = message.core.type == CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT;
  Master* victim = &from;
  bool fits = true;
  switch (plan.moment) {
    case Moment::kAnything:
      break;
    case Moment::kEntries:
      fits = entries;
      break;
    case Moment::kEntriesHeard:
      fits = entries;
      victim = find(message.to);
      break;
    case Moment::kEntriesHeld:
      fits = result && message.core.rejected == 0;
      break;
    case Moment::kChange:
      fits = entries && std::ranges::any_of(message.entries,
                                            [](const RaftMessage::Entry& e) { return e.type == CAIRN_RAFT_CHANGE; });
      break;
    case Moment::kVote:
      fits = vote && message.core.vote_granted && !message.core.pre_vote;
      break;
  }
  if (!fits || victim == nullptr || (plan.victim != nullptr && plan.victim != victim)) return true;
  if (plan.skip > 0) {
    --plan.skip;
    return true;
  }
  plan.under_way = true;
  plan.victim = victim;
  if (victim != &from) plan.unheard = false;
  Duration within = std::chrono::microseconds(random_.below(plan.unheard ? 20'000 : victim == &from ? 400 : 1500));
  simulator_.after(within, [this, victim] {
    if (!crash_) return;  // all is mended already
    tell(fmt::format("crash {} with a message under way, moment {}", victim->node->name(),
                     static_cast<int>(crash_->moment)));
    crash_.reset();
    crash_planned(*victim, random_.chance(3, 4) ? Crash::kPower : Crash::kPowerKeepsPart);
  });
  return !plan.unheard;
}

// Comes back soon.
void GroupSim::crash_planned(Master& victim, Crash kind) {
  if (!victim.node->running()) return;
  victim.node->crash(kind);
  simulator_.after(up_to_ms(1500), [this, &victim] {
    if (!victim.node->running() && !victim.lost) start(victim);
  });
}

// ---------------------------------------------------------------- a master is replaced

// A disk is lost for good: the master is removed, and comes back with an empty folder and another id. Sometimes another
// one hears nothing for moments meanwhile: it gets the change later, behind other entries, and then leads.
std::string GroupSim::replace(Master& master) {
  tell("replace " + master.node->name());
  if (master.node->running()) master.node->crash(Crash::kPower);
  master.lost = true;
  Master* deaf = random_.chance(1, 2) ? &any_but(master) : nullptr;
  if (deaf != nullptr) {
    deaf_ = deaf;
    simulator_.after(50ms + up_to_ms(250), [this] { deaf_ = nullptr; });
    simulator_.run_for(up_to_ms(100));
  }
  bool removed = remove(master, 20s);
  master.lost = false;
  if (!removed) {
    start(master);
    return {};
  }
  CHECK(master.node->memory_disk().remove_tree("/master"));
  CHECK(master.node->memory_disk().sync_folder("/"));  // no loss of power brings the old one back
  prepare(master, false);
  start(master);
  Master* leads = leader();
  if (deaf != nullptr && leads != nullptr && leads != deaf) {
    simulator_.run_for(300ms);
    if ((leads = leader()) != nullptr) program(*leads)->transfer(deaf->id);
    simulator_.run_for(300ms);
  }
  if (add(master, 60s)) return {};
  return master.node->name() + " cannot take the place of the one before, although nothing else is wrong: " + states();
}

// ---------------------------------------------------------------- the draw

void GroupSim::crash_one(Master& one) {
  static constexpr Crash kinds[] = {Crash::kProcess, Crash::kPower, Crash::kPowerKeepsPart};
  Crash kind = kinds[random_.below(3)];
  Master* victim = random_.chance(1, 2) ? leader() : &one;
  if (victim == nullptr || !victim->node->running()) return;
  tell(fmt::format("crash {} {}", victim->node->name(), static_cast<int>(kind)));
  victim->node->crash(kind);
}

void GroupSim::cut(Master& one, Master& other) {
  if (random_.chance(1, 2)) {
    tell(fmt::format("cut {} {}", one.node->name(), other.node->name()));
    simulator_.block(*one.node, *other.node);
  } else {
    tell(fmt::format("cut one way {} {}", one.node->name(), other.node->name()));
    simulator_.block_one_way(*one.node, *other.node);
  }
}

void GroupSim::isolate(Master& one) {
  tell("isolate " + one.node->name());
  for (Master& master : masters_) {
    if (&master != &one) simulator_.block(*one.node, *master.node);
  }
}

void GroupSim::pause_for_a_while(Master& one) {
  if (!one.node->running() || one.node->paused()) return;
  tell("pause " + one.node->name());
  one.node->pause();
  simulator_.run_for(up_to_ms(3000));
  one.node->resume();
}

std::string GroupSim::one_fault() {
  Master& one = any();
  switch (random_.below(20)) {
    case 0:
    case 1:
      crash_one(one);
      break;
    case 2:
      start_all();
      break;
    case 3: {
      Master* leads = leader();  // finds another one in its place afterwards, and does not know it yet
      pause_for_a_while(leads != nullptr && random_.chance(2, 3) ? *leads : one);
      break;
    }
    case 4:
    case 5:
      cut(one, any_but(one));
      break;
    case 6:
      isolate(one);
      break;
    case 7:
      tell("unblock");
      simulator_.unblock_all();
      break;
    case 8:
      simulator_.reset_connections(*one.node, *any_but(one).node);
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
      // A group of which too many are away at the moment waits for that in vain.
      if (random_.chance(1, 3) && settle() != nullptr) return replace(one);
      break;
    case 12:
    case 13:
      crash_soon(draw_crash(one));
      break;
    case 14:
      power_fails_around(one);
      break;
    case 15:
      crash_when_answered();
      break;
    case 16:
      if (random_.chance(1, 2)) forget_a_vote();
      break;
    case 17:
      if (random_.chance(1, 3)) return outdate_the_longest_log();
      break;
    case 18:
      if (random_.chance(1, 2)) overtake_a_checkpoint();
      break;
    case 19:
      if (random_.chance(1, 2)) return come_back_at_the_edge();
      break;
  }
  return {};
}

}  // namespace cairn
