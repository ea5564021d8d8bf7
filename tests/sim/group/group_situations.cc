// Several faults in an order that random draws reach too seldom.
#include <algorithm>
#include <map>
#include <utility>

#include "tests/sim/group/group_run.h"

namespace cairn {

// Everything is mended, and there is a leader that has all of them as voters; null if that takes too long.
GroupSim::Master* GroupSim::settle() {
  crash_.reset();
  deaf_ = nullptr;
  simulator_.unblock_all();
  start_all();
  Master* leads = nullptr;
  simulator_.run_until(
      [&] {
        leads = leader();
        if (leads == nullptr) return false;
        std::vector<GroupMember> members = log(*leads)->members();
        bool all = members.size() == masters_.size() && std::ranges::all_of(members, [](const GroupMember& member) {
                     return member.role == GroupRole::kVoter;
                   });
        LogIndex known = log(*leads)->status().committed;
        return all && std::ranges::all_of(masters_, [&](Master& master) {
                 return log(master) != nullptr && log(master)->status().applied + 10 >= known;
               });
      },
      3s);
  bool well = leads != nullptr && leads == leader() &&
              std::ranges::all_of(masters_, [&](Master& master) { return master.member && log(master) != nullptr; });
  return well ? leads : nullptr;
}

bool GroupSim::run_until_answered() {
  uint64_t before = history_.done();
  return simulator_.run_until([&] { return history_.done() > before; }, 2s);
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
  simulator_.run_for(up_to_ms(100));
  run_until_answered();
  for (Master& master : masters_) {
    if (&master != &spared && master.node->running()) master.node->crash(Crash::kPower);
  }
  simulator_.unblock_all();
  for (Master& master : masters_) {
    if (&master != leads && !master.node->running()) start(master);
  }
}

// The leader loses power in the moment in which it answers: its own disk may be behind those of the others.
void GroupSim::crash_when_answered() {
  if (!run_until_answered()) return;
  Master* leads = leader();
  if (leads == nullptr) return;
  tell("crash " + leads->node->name() + ", which has just answered");
  crash_planned(*leads, random_.chance(3, 4) ? Crash::kPower : Crash::kPowerKeepsPart);
}

// The vote that makes a majority is given, its voter loses power in that moment, and who won it is seen by nobody: the
// others elect somebody too. (design.md 3.5: a vote is on disk before it is said.)
void GroupSim::forget_a_vote() {
  Master* old = settle();
  if (old == nullptr) return;
  tell("forget a vote");
  Master* voter = nullptr;
  Master* elected = nullptr;
  std::map<std::pair<Term, MasterId>, size_t> votes;
  on_message_ = [&](Master& from, const RaftMessage& message) {
    if (message.core.type != CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT || !message.core.vote_granted ||
        message.core.pre_vote || voter != nullptr)
      return true;
    if (find(message.to) == nullptr) return true;
    if (++votes[{message.core.term, message.to}] < masters_.size() / 2) return true;
    voter = &from;
    elected = find(message.to);
    for (Master& master : masters_) {
      if (&master != voter && &master != elected) simulator_.block(*elected->node, *master.node);
    }
    simulator_.after(std::chrono::microseconds(random_.below(400)), [node = from.node] {
      if (node->running()) node->crash(Crash::kPower);
    });
    return true;
  };
  old->node->crash(Crash::kProcess);
  simulator_.run_until([&] { return voter != nullptr && !voter->node->running(); }, 5s);
  on_message_ = nullptr;
  if (voter != nullptr) {
    simulator_.run_for(1ms);  // what it said arrives
    simulator_.block(*elected->node, *voter->node);
    simulator_.run_for(up_to_ms(20));
  }
  start_all();
  simulator_.run_for(3s);
  simulator_.unblock_all();
}

// A leader is cut off with entries that nobody else has, and of the others none wins, for their votes are lost, while
// their terms rise. Then some of them are gone, and the rest needs the old leader with its old term (M5).
std::string GroupSim::outdate_the_longest_log() {
  Master* longest = settle();
  if (longest == nullptr) return {};
  tell("the longest log is out of date: " + longest->node->name());
  Term term = log(*longest)->term();
  // Lost, not held up: a cut would let a vote that was asked for through in the end.
  on_message_ = [longest](Master& from, const RaftMessage& message) {
    if (&from == longest || message.to == longest->id) return false;
    return message.core.type != CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT || message.core.pre_vote;
  };
  auto others = [&](auto holds) {
    return std::ranges::all_of(masters_, [&](Master& master) {
      return &master == longest || (log(master) != nullptr && holds(*log(master)));
    });
  };
  // One term is too little: it asks for the next one itself.
  auto outdated = [&](ReplicatedLog& other) {
    bool there = log(*longest) != nullptr;  // a fault of before may end it meanwhile
    return there && other.term() > term + 2 && other.status().last < log(*longest)->status().last;
  };
  simulator_.run_until([&] { return others(outdated); }, 8s);
  // A majority is left, with the longest log.
  size_t may_go = masters_.size() - (masters_.size() / 2 + 1);
  size_t place = random_.below(masters_.size());
  std::vector<Master*> back;
  for (size_t i = 0; i < masters_.size(); ++i) {
    Master& master = masters_[(place + i) % masters_.size()];
    if (&master == longest) continue;
    if (master.node->running()) master.node->crash(random_.chance(1, 2) ? Crash::kProcess : Crash::kPower);
    if (may_go == 0)
      back.push_back(&master);
    else
      --may_go;
  }
  for (Master* master : back)
    start(*master);
  simulator_.run_for(up_to_ms(1000));
  on_message_ = nullptr;
  uint64_t answered = history_.done();
  bool lives = simulator_.run_until([&] { return history_.done() > answered || !trouble().empty(); }, 30s);
  std::string wrong = lives ? std::string() : "a majority is there, and nothing is acknowledged: " + states();
  start_all();
  return wrong;
}

// A follower fetches a checkpoint, is cut off from who has it, and gets the entries from another leader meanwhile.
void GroupSim::overtake_a_checkpoint() {
  Master* leads = settle();
  if (leads == nullptr) return;
  Master& late = any_but(*leads);
  tell("a checkpoint for " + late.node->name() + " is overtaken");
  late.node->crash(Crash::kProcess);
  LogIndex known = log(*leads)->status().last;
  simulator_.run_until(
      [&] { return log(*leads) == nullptr || log(*leads)->status().last > known + trailing_entries_ + 10; }, 3s);
  for (int i = 0; i < 2 && log(*leads) != nullptr; ++i) {
    program(*leads)->checkpoint();
    simulator_.run_for(100ms);
  }
  bool offered = false;
  on_message_ = [&](Master& from, const RaftMessage& message) {
    offered |= &from == leads && message.core.type == CAIRN_RAFT_MESSAGE_INSTALL_SNAPSHOT;
    return true;
  };
  start(late);
  simulator_.run_until([&] { return offered; }, 3s);
  on_message_ = nullptr;
  if (!offered || log(*leads) == nullptr) return;
  simulator_.run_for(std::chrono::microseconds(random_.below(6000)));
  simulator_.block(*late.node, *leads->node);
  if (GroupMaster* running = program(*leads)) {
    Master* next = &any_but(*leads);
    running->transfer(next != &late ? next->id : MasterId());
  }
  simulator_.run_for(500ms + up_to_ms(2000));
  simulator_.unblock_all();
  simulator_.run_for(1s);
}

// A master hears nothing for about as many entries as the leader keeps: it may end just before the first of them.
std::string GroupSim::come_back_at_the_edge() {
  Master* leads = settle();
  if (leads == nullptr) return {};
  Master& late = any_but(*leads);
  tell(late.node->name() + " comes back at the edge of the log");
  LogIndex known = log(late)->status().committed;
  if (random_.chance(1, 4)) {
    late.node->crash(Crash::kProcess);
  } else {
    deaf_ = &late;  // still knows what is committed
  }
  LogIndex wanted = known + 1 + std::max<uint64_t>(trailing_entries_, 10) - 10 + random_.below(10);
  simulator_.run_until([&] { return log(*leads) == nullptr || log(*leads)->status().last >= wanted; }, 3s);
  for (int i = 0; i < 2 && log(*leads) != nullptr; ++i) {
    program(*leads)->checkpoint();
    simulator_.run_for(20ms);
  }
  deaf_ = nullptr;
  if (log(*leads) == nullptr) return {};
  LogIndex there = log(*leads)->status().committed;
  start(late);
  bool back = simulator_.run_until(
      [&] { return !trouble().empty() || (log(late) != nullptr && log(late)->status().applied >= there); }, 20s);
  if (back) return {};
  return late.node->name() + " does not catch up, although nothing else is wrong: " + states();
}

}  // namespace cairn
