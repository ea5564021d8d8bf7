// Reads: a leader answers when its state holds everything that was acknowledged before, and nobody else leads. The
// second is asked of the other voters: who has no later term when he answers has not voted in one, so whoever leads next
// was elected after that (Raft dissertation 6.4, without counting on clocks). One round serves all reads that wait.
#include <utility>

#include "master/consensus/raft_log.h"

namespace cairn {

namespace {
constexpr Duration kProbeAgain = std::chrono::milliseconds(100);  // a probe or its answer may have been lost
}

Task<Result<void>> RaftLog::read_barrier() {
  if (stopping_ || failed_ || retired_) co_return ErrorCode::kCancelled;
  if (!leading_) co_return not_leader();
  // Having applied everything up to this leadership's first entry is enough of the first, because what was acknowledged
  // after it has been applied too.
  if (own_term_index_ == 0 || applied_ < own_term_index_) {
    barriers_.push_back({own_term_index_, Promise<void>(executor_)});
    Future<void> applied = barriers_.back().promise.future();
    Result<void> result = co_await std::move(applied);
    if (!result) co_return result;
    if (!leading_) co_return not_leader();
  }
  // With one voter nobody else can have led since.
  if (is_sole_voter()) co_return Result<void>();
  next_round_.emplace_back(executor_);
  Future<void> confirmed = next_round_.back().future();
  if (!round_) start_read_round();
  Result<void> result = co_await std::move(confirmed);
  co_return result;
}

void RaftLog::start_read_round() {
  round_ = ReadRound();
  round_->number = ++round_number_;
  round_->waiters = std::exchange(next_round_, {});
  send_probes();
  if (!std::exchange(repeating_probes_, true)) tasks_.spawn(repeat_probes());
}

void RaftLog::send_probes() {
  for (const GroupMember& member : members()) {
    if (member.role != GroupRole::kVoter || member.master == self() || round_->echoed.contains(member.master)) continue;
    RaftMessage probe;
    probe.core.type = kReadProbe;
    probe.core.term = term();
    probe.core.index = round_->number;
    send(member.master, member.address, std::move(probe));
  }
}

Task<void> RaftLog::repeat_probes() {
  while (round_) {
    uint64_t number = round_->number;
    Result<void> slept = co_await tasks_.sleep_for(kProbeAgain);
    if (!slept) break;
    if (round_ && round_->number == number) send_probes();
  }
  repeating_probes_ = false;
}

void RaftLog::on_read_probe(const RaftMessage& message) {
  if (term() > message.core.term) return;
  RaftMessage echo;
  echo.core.type = kReadEcho;
  echo.core.term = message.core.term;
  echo.core.index = message.core.index;
  send(message.from, message.from_address, std::move(echo));
}

void RaftLog::on_read_echo(const RaftMessage& message) {
  if (!leading_ || message.core.term != term() || !round_ || round_->number != message.core.index) return;
  round_->echoed.insert(message.from);
  size_t voters = 0;
  size_t agreeing = 0;
  for (const GroupMember& member : members()) {
    if (member.role != GroupRole::kVoter) continue;
    ++voters;
    if (member.master == self() || round_->echoed.contains(member.master)) ++agreeing;
  }
  if (agreeing <= voters / 2) return;
  std::vector<Promise<void>> waiters = std::move(round_->waiters);
  round_.reset();
  for (Promise<void>& waiter : waiters)
    waiter.set({});
  if (!next_round_.empty() && !round_) start_read_round();
}

void RaftLog::end_reads(const Error& error) {
  std::vector<Promise<void>> waiters = std::exchange(next_round_, {});
  if (round_) {
    for (Promise<void>& waiter : round_->waiters)
      waiters.push_back(std::move(waiter));
    round_.reset();
  }
  for (Promise<void>& waiter : waiters)
    waiter.set(error);
}

}  // namespace cairn
