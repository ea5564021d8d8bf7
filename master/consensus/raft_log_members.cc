// Who belongs to the group, and who leads it.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/base/log.h"
#include "master/consensus/raft_log.h"

namespace cairn {

namespace {
constexpr Duration kLookAgain = std::chrono::milliseconds(50);
}

std::vector<GroupMember> RaftLog::members() const {
  std::vector<GroupMember> members;
  for (unsigned i = 0; i < cairn_raft_member_count(core_); ++i) {
    CairnRaftMember core = cairn_raft_member(core_, i);
    GroupMember member{.master = MasterId(core.id), .address = core.address};
    member.role = core.role == CAIRN_RAFT_VOTER     ? GroupRole::kVoter
                  : core.role == CAIRN_RAFT_STANDBY ? GroupRole::kStandby
                                                    : GroupRole::kSpare;
    if (leading_) member.match = cairn_raft_match_index(core_, i);
    if (member.master != self()) {
      auto heard = heard_.find(member.master);
      member.silent_ms =
          heard == heard_.end() ? UINT64_MAX : static_cast<uint64_t>((clock_.now() - heard->second) / 1ms);
    }
    members.push_back(std::move(member));
  }
  return members;
}

Task<Result<void>> RaftLog::wait_changed(TimePoint deadline) {
  if (failed_ || stopping_ || retired_) co_return ErrorCode::kCancelled;
  if (!leading_) co_return not_leader();
  if (clock_.now() >= deadline) co_return Error(ErrorCode::kTimeout, "changing the group of masters");
  Result<void> slept = co_await tasks_.sleep_until(std::min(deadline, clock_.now() + kLookAgain));
  if (!slept) co_return ErrorCode::kCancelled;
  co_return Result<void>();
}

Task<Result<void>> RaftLog::change_members(std::vector<GroupMember> members, TimePoint deadline) {
  while (cairn_raft_is_changing(core_)) {
    Result<void> waited = co_await wait_changed(deadline);
    if (!waited) co_return waited;
  }
  if (!leading_) co_return not_leader();
  std::vector<CairnRaftMember> core;
  for (const GroupMember& member : members) {
    int role = member.role == GroupRole::kVoter     ? CAIRN_RAFT_VOTER
               : member.role == GroupRole::kStandby ? CAIRN_RAFT_STANDBY
                                                     : CAIRN_RAFT_SPARE;
    core.push_back({.id = member.master.value, .address = member.address.c_str(), .role = role});
  }
  void* encoded = nullptr;
  size_t size = 0;
  if (cairn_raft_encode_configuration(core.data(), static_cast<unsigned>(core.size()), &encoded, &size) != 0)
    co_return Error(ErrorCode::kInvalid, "a group of masters with two of the same id or address");
  auto entry = std::make_shared<RaftEntry>();
  entry->type = CAIRN_RAFT_CHANGE;
  entry->payload.assign(static_cast<const char*>(encoded), size);
  std::free(encoded);

  LogIndex before = cairn_raft_last_index(core_);
  Term in_term = term();
  submit(std::move(entry), {}, true);
  if (failed_) co_return ErrorCode::kCancelled;
  if (cairn_raft_last_index(core_) == before) co_return Error(ErrorCode::kBusy, "leadership is being handed over");
  LogIndex index = before + 1;
  while (committed_ < index) {
    Result<void> waited = co_await wait_changed(deadline);
    if (!waited && waited.code() == ErrorCode::kNotLeader)
      co_return Error(ErrorCode::kUnavailable, "leadership was lost while the group was changed: ask again");
    if (!waited) co_return waited;
  }
  if (term() != in_term) co_return Error(ErrorCode::kUnavailable, "leadership was lost while the group was changed: ask again");
  log_info("master.group_changed", "index={} members={}", index, members.size());
  co_return Result<void>();
}

Task<Result<void>> RaftLog::add_member(MasterId master, std::string address, TimePoint deadline) {
  for (;;) {
    if (failed_ || stopping_ || retired_) co_return ErrorCode::kCancelled;
    if (!leading_) co_return not_leader();
    std::vector<GroupMember> group = members();
    auto found = std::ranges::find(group, master, &GroupMember::master);
    if (found == group.end()) {
      auto same = std::ranges::find(group, address, &GroupMember::address);
      if (same != group.end())
        co_return Error(ErrorCode::kExists, "master " + to_string(same->master) + " of the group has the address " +
                                                address + ": remove it first");
      group.push_back({.master = master, .address = address, .role = GroupRole::kSpare});
      Result<void> added = co_await change_members(std::move(group), deadline);
      if (!added) co_return added;
      continue;
    }
    if (found->role == GroupRole::kVoter) {
      // It counts once that is committed.
      if (!cairn_raft_is_changing(core_)) co_return Result<void>();
    } else if (cairn_raft_catch_up_status(core_, master.value) == CAIRN_RAFT_CATCH_UP_FINISHED) {
      found->role = GroupRole::kVoter;
      Result<void> promoted = co_await change_members(std::move(group), deadline);
      if (!promoted) co_return promoted;
      continue;
    } else if (cairn_raft_catch_up_status(core_, master.value) != CAIRN_RAFT_CATCH_UP_RUNNING &&
               !cairn_raft_is_changing(core_)) {
      // Not yet, or given up because it was too slow (it may be fetching a checkpoint): again.
      CairnRaftUpdate update;
      int status = cairn_raft_catch_up(core_, now_ms(), master.value, &update);
      after_step(status, update);
    }
    Result<void> waited = co_await wait_changed(deadline);
    if (!waited) co_return waited;
  }
}

Task<Result<void>> RaftLog::remove_member(MasterId master, TimePoint deadline) {
  if (!leading_) co_return not_leader();
  std::vector<GroupMember> group = members();
  auto found = std::ranges::find(group, master, &GroupMember::master);
  if (found == group.end()) co_return Result<void>();
  auto voters = std::ranges::count(group, GroupRole::kVoter, &GroupMember::role);
  if (found->role == GroupRole::kVoter && voters == 1)
    co_return Error(ErrorCode::kInvalid, "master " + to_string(master) + " is the last voter of the group");
  if (master == self()) {
    Result<void> handed = co_await transfer_leadership(MasterId(), deadline);
    if (!handed) co_return handed;
    co_return not_leader();
  }
  group.erase(found);
  Result<void> removed = co_await change_members(std::move(group), deadline);
  if (removed) heard_.erase(master);
  co_return removed;
}

Task<Result<void>> RaftLog::transfer_leadership(MasterId to, TimePoint deadline) {
  if (failed_ || stopping_ || retired_) co_return ErrorCode::kCancelled;
  if (!leading_) co_return not_leader();
  if (to == self()) co_return Result<void>();
  Term in_term = term();
  if (cairn_raft_transferee(core_) == 0) {
    CairnRaftUpdate update;
    int status = cairn_raft_transfer(core_, now_ms(), to.value, &update);
    if (status != 0) co_return Error(ErrorCode::kNotFound, to ? "no voter " + to_string(to) : "no other voter");
    after_step(status, update);
  }
  while (leading_ && term() == in_term) {
    if (cairn_raft_transferee(core_) == 0)
      co_return Error(ErrorCode::kUnavailable, "the other master did not take over in time; this one goes on");
    Result<void> waited = co_await wait_changed(deadline);
    if (!waited && waited.code() == ErrorCode::kNotLeader) break;
    if (!waited) co_return waited;
  }
  log_info("master.handed_over", "term={}", in_term);
  co_return Result<void>();
}

}  // namespace cairn
