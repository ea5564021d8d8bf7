// LeaseTable against a model that keeps everything in plain maps: many sessions, few inodes, all operations, in any
// order.
#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <set>

#include "common/base/random.h"
#include "master/leases/lease_table.h"

namespace cairn {
namespace {

constexpr uint64_t kSessions = 5, kInodes = 6, kSteps = 3000;

struct Model {
  struct Open {
    SessionId by;
    std::vector<Touched> touched;
  };
  struct Asked {
    SessionId session;
    Recall recall;
    ChangeId change = 0;
  };
  std::map<InodeId, std::set<SessionId>> shared;
  std::map<InodeId, SessionId> exclusive;
  std::map<InodeId, uint64_t> changed;  // the step of the last change, or of the end of an exclusive lease
  std::map<ChangeId, Open> changes;
  std::vector<Asked> pending;

  bool changing(InodeId inode) const {
    return std::ranges::any_of(changes, [&](const auto& change) {
      return std::ranges::any_of(change.second.touched, [&](const Touched& object) { return object.inode == inode; });
    });
  }
  bool asked(SessionId session, InodeId inode) const {
    return std::ranges::any_of(pending,
                               [&](const Asked& one) { return one.session == session && one.recall.inode == inode; });
  }
  bool others(SessionId session, InodeId inode) const {
    auto sharers = shared.find(inode);
    bool share = sharers != shared.end() &&
                 std::ranges::any_of(sharers->second, [&](SessionId other) { return other != session; });
    return share || (exclusive.contains(inode) && exclusive.at(inode) != session);
  }
};

class RandomLeases : public ::testing::TestWithParam<uint64_t> {
 public:
  RandomLeases() : random_(make_seeded_random(GetParam())) { table_.begin_term(1); }

  SessionId session() { return SessionId(1 + random_->below(kSessions)); }
  InodeId inode() { return InodeId(1 + random_->below(kInodes)); }

  void share();
  void begin();
  void ask();
  void answer();
  void end();
  void take();
  void read_written();
  void give_up();
  void check();
  void lose(SessionId session, InodeId inode);

  std::unique_ptr<Random> random_;
  LeaseTable table_;
  Model model_;
  std::vector<std::pair<LeaseTable::Mark, uint64_t>> marks_;
  uint64_t step_ = 0;
};

void RandomLeases::share() {
  if (marks_.empty() || random_->chance(1, 2)) marks_.emplace_back(table_.mark(), step_);
  auto [mark, at] = marks_[random_->below(marks_.size())];
  SessionId who = session();
  InodeId what = inode();
  bool given = table_.share(who, what, mark, true).duration_ms != 0;
  bool late = model_.changed.contains(what) && model_.changed[what] > at;
  bool theirs = model_.exclusive.contains(what) && model_.exclusive[what] != who;
  bool allowed = !late && !theirs && !model_.changing(what) && !model_.asked(who, what);
  ASSERT_EQ(given, allowed) << "step " << step_;
  if (given && !model_.exclusive.contains(what)) model_.shared[what].insert(who);
}

void RandomLeases::begin() {
  Model::Open change{.by = session(), .touched = {}};
  for (uint64_t i = 0, count = 1 + random_->below(3); i < count; ++i) {
    auto kind = static_cast<RecallKind>(1 + random_->below(3));
    if (random_->chance(1, 5)) kind = RecallKind::kWriter;
    change.touched.push_back({.inode = inode(), .kind = kind, .name = kind == RecallKind::kName ? "x" : ""});
  }
  for (const Touched& object : change.touched)
    model_.changed[object.inode] = step_;
  model_.changes[table_.begin_change(change.by, change.touched)] = change;
}

void RandomLeases::ask() {
  if (model_.changes.empty()) return;
  auto change = std::next(model_.changes.begin(), static_cast<long>(random_->below(model_.changes.size())));
  for (const LeaseTable::Asked& one : table_.recalls_for(change->first)) {
    EXPECT_NE(one.session, change->second.by);
    model_.pending.push_back({one.session, one.recall, change->first});
  }
  // Whoever holds something of it has been asked for that.
  for (const Touched& object : change->second.touched) {
    for (const LeaseTable::Holder& holder : table_.holders(object.inode)) {
      if (holder.session == change->second.by || object.kind == RecallKind::kName) continue;
      if (object.kind == RecallKind::kContent || object.kind == RecallKind::kWriter || holder.exclusive)
        EXPECT_TRUE(model_.asked(holder.session, object.inode)) << "step " << step_;
    }
  }
}

void RandomLeases::lose(SessionId session, InodeId inode) {
  auto exclusive = model_.exclusive.find(inode);
  if (exclusive != model_.exclusive.end() && exclusive->second == session) {
    model_.exclusive.erase(exclusive);
    model_.changed[inode] = step_;
  }
  model_.shared[inode].erase(session);
}

void RandomLeases::answer() {
  if (model_.pending.empty()) return;
  auto one = model_.pending.begin() + static_cast<long>(random_->below(model_.pending.size()));
  Model::Asked asked = *one;
  bool returned = random_->chance(1, 4);
  LeaseTable::Answered answered = table_.answered(asked.session, {asked.recall.sequence, returned});
  ASSERT_TRUE(answered.known);
  EXPECT_FALSE(table_.answered(asked.session, {asked.recall.sequence, returned}).known);
  model_.pending.erase(one);
  bool last = model_.changes.contains(asked.change) &&
              std::ranges::none_of(model_.pending, [&](const auto& other) { return other.change == asked.change; });
  EXPECT_EQ(answered.complete, last ? asked.change : 0) << "step " << step_;
  InodeId what = asked.recall.inode;
  bool writes = model_.exclusive.contains(what) && model_.exclusive[what] == asked.session;
  if (returned || asked.recall.kind == RecallKind::kContent || asked.recall.kind == RecallKind::kWriter) {
    lose(asked.session, what);
  } else if (asked.recall.kind == RecallKind::kReader && writes) {
    lose(asked.session, what);
    model_.shared[what].insert(asked.session);
  }
}

void RandomLeases::end() {
  if (model_.changes.empty()) return;
  auto change = std::next(model_.changes.begin(), static_cast<long>(random_->below(model_.changes.size())));
  InodeId what = change->second.touched.front().inode;
  SessionId by = change->second.by;
  bool alone = true;
  for (const auto& [id, other] : model_.changes) {
    if (id != change->first && std::ranges::any_of(other.touched, [&](const auto& t) { return t.inode == what; }))
      alone = false;
  }
  EXPECT_EQ(table_.alone(change->first, what), alone);
  if (table_.share_changed(change->first, what, true).duration_ms != 0) {
    EXPECT_FALSE(model_.exclusive.contains(what) && model_.exclusive[what] != by);
    if (!model_.exclusive.contains(what)) model_.shared[what].insert(by);
  }
  for (const Touched& object : change->second.touched)
    model_.changed[object.inode] = step_;
  table_.end_change(change->first);
  model_.changes.erase(change);
}

void RandomLeases::take() {
  if (model_.changes.empty()) return;
  auto change = std::next(model_.changes.begin(), static_cast<long>(random_->below(model_.changes.size())));
  InodeId what = change->second.touched.front().inode;
  SessionId by = change->second.by;
  bool alone = table_.alone(change->first, what);
  bool has = model_.exclusive.contains(what) && model_.exclusive[what] == by;
  bool given = table_.make_exclusive(change->first, by, what).duration_ms != 0;
  EXPECT_EQ(given, !model_.asked(by, what) && (has || (alone && !model_.others(by, what)))) << "step " << step_;
  if (!given || has) return;
  model_.shared[what].erase(by);
  model_.exclusive[what] = by;
}

void RandomLeases::read_written() {
  InodeId what = inode();
  SessionId reader = session();
  if (std::optional<LeaseTable::Asked> asked = table_.recall_for_reader(what, reader))
    model_.pending.push_back({asked->session, asked->recall, 0});
  EXPECT_EQ(table_.reader_pending(what) || !model_.exclusive.contains(what) || model_.exclusive[what] == reader, true);
}

void RandomLeases::give_up() {
  SessionId who = session();
  InodeId what = inode();
  if (random_->chance(1, 10)) {
    table_.end_session(who);
    std::erase_if(model_.pending, [&](const Model::Asked& one) { return one.session == who; });
    for (uint64_t i = 1; i <= kInodes; ++i)
      lose(who, InodeId{i});
  } else if (random_->chance(1, 2)) {
    table_.give_back(who, {what});
    if (!model_.exclusive.contains(what)) lose(who, what);
  } else {
    bool keep = random_->chance(1, 2);
    bool writes = model_.exclusive.contains(what) && model_.exclusive[what] == who;
    ASSERT_EQ(table_.lower(who, what, keep), writes);
    if (writes) lose(who, what);
    if (writes && keep) model_.shared[what].insert(who);
  }
}

void RandomLeases::check() {
  size_t shared = 0;
  for (uint64_t i = 1; i <= kInodes; ++i) {
    InodeId what{i};
    std::vector<LeaseTable::Holder> expected;
    for (SessionId holder : model_.shared[what])
      expected.push_back({.session = holder, .recalled = model_.asked(holder, what)});
    shared += expected.size();
    if (model_.exclusive.contains(what)) {
      SessionId writer = model_.exclusive[what];
      ASSERT_TRUE(expected.empty()) << "step " << step_;
      expected.push_back({.session = writer, .exclusive = true, .recalled = model_.asked(writer, what)});
    }
    ASSERT_EQ(table_.holders(what), expected) << "step " << step_ << " inode " << i;
  }
  ASSERT_EQ(table_.shared_count(), shared);
  ASSERT_EQ(table_.exclusive_count(), model_.exclusive.size());
  for (const auto& [id, change] : model_.changes) {
    auto pending = std::ranges::count_if(model_.pending, [&](const auto& one) { return one.change == id; });
    ASSERT_EQ(table_.pending(id), static_cast<size_t>(pending)) << "step " << step_;
  }
}

TEST_P(RandomLeases, AgreeWithTheModel) {
  using Step = void (RandomLeases::*)();
  const std::vector<Step> steps{&RandomLeases::share,  &RandomLeases::share, &RandomLeases::begin,
                                &RandomLeases::ask,    &RandomLeases::ask,   &RandomLeases::answer,
                                &RandomLeases::answer, &RandomLeases::end,   &RandomLeases::take,
                                &RandomLeases::take,   &RandomLeases::end,   &RandomLeases::read_written,
                                &RandomLeases::give_up};
  while (++step_ <= kSteps && !HasFatalFailure()) {
    (this->*steps[random_->below(steps.size())])();
    check();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomLeases, ::testing::Range(uint64_t{1}, uint64_t{31}));

}  // namespace
}  // namespace cairn
