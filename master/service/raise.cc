// Raising the version of one chunk (docs/consistency.md, "Versions"): on behalf of a writer, or to recover what a dead
// writer or a power cut left. The order is always: the log says what is to happen; the replicas record the version, and
// refuse older ones from then on; the log says who did; only then does anybody write under it.
#include <algorithm>
#include <tuple>
#include <utility>

#include "common/base/log.h"
#include "master/service/chunk_keeper_impl.h"

namespace cairn {

struct ChunkKeeper::Impl::Round {
  explicit Round(Executor& executor) : changed(executor) {}
  size_t waiting = 0;
  std::vector<Answer> answers;
  Condition changed;
};

namespace {
constexpr int kConflictsMax = 5;

bool contains(const std::vector<ServerId>& servers, ServerId server) {
  return std::ranges::find(servers, server) != servers.end();
}
}  // namespace

Task<void> ChunkKeeper::Impl::order_raise_one(ChunkId chunk, uint64_t from, uint64_t to, ServerId server,
                                              std::shared_ptr<Round> round) {
  RaiseVersionRequest request;
  request.chunk = chunk;
  request.from_version = from;
  request.to_version = to;
  auto reply = co_await order(server, std::move(request));
  if (reply) {
    round->answers.push_back({.server = server,
                              .incarnation = reply->incarnation,
                              .status = reply->status,
                              .verified = reply->status.verified});
  } else if (reply.failed_with(ErrorCode::kNotFound)) {
    const LiveServer* live = servers.find(server);
    round->answers.push_back(
        {.server = server, .incarnation = live ? live->incarnation : 0, .status = {}, .found = false});
  } else {
    log_warning("master.raise_refused", "chunk={} version={} server={} error={}", chunk, to, server,
                quoted(reply.error().message()));
  }
  --round->waiting;
  round->changed.notify_all();
}

Task<std::vector<ChunkKeeper::Impl::Answer>> ChunkKeeper::Impl::order_raise(ChunkId chunk, uint64_t from, uint64_t to,
                                                                            std::vector<ServerId> targets) {
  auto round = std::make_shared<Round>(core.world().executor());
  round->waiting = targets.size();
  for (ServerId server : targets)
    tasks.spawn(order_raise_one(chunk, from, to, server, round));
  while (round->waiting > 0 && !tasks.stop_requested())
    co_await round->changed.wait();
  std::ranges::sort(round->answers, {}, &Answer::server);
  co_return std::move(round->answers);
}

Task<void> ChunkKeeper::Impl::order_copy_one(ChunkId chunk, uint64_t version, ServerId source, ServerId target,
                                             bool seal, std::shared_ptr<Round> round) {
  CopyChunkRequest request;
  request.chunk = chunk;
  request.version = version;
  request.source = address_of(source);
  request.capability = sign(chunk, version, SessionId{}, CapabilityRights::kCopy | CapabilityRights::kRead);
  request.seal = seal;
  auto reply = co_await order(target, std::move(request),
                              order_deadline() + std::chrono::milliseconds(options.order_deadline_ms) * 2);
  if (reply) {
    round->answers.push_back({.server = target, .incarnation = reply->incarnation, .status = reply->status});
  } else {
    // What came from the source did not match its checksums: another one is to be the source the next time.
    if (reply.failed_with(ErrorCode::kCorrupt)) co_await doubt_source(chunk, source);
    log_warning("master.copy_failed", "chunk={} version={} source={} target={} error={}", chunk, version, source,
                target, quoted(reply.error().message()));
  }
  --round->waiting;
  round->changed.notify_all();
}

// The last copy stays what it is: what of it can be read is better than nothing.
Task<void> ChunkKeeper::Impl::doubt_source(ChunkId chunk, ServerId source) {
  Result<ChunkRecord> found = co_await record(chunk);
  if (!found || found->current_copies() < 2) co_return;
  const ReplicaRecord* replica = found->replica_on(source);
  if (replica == nullptr || replica->state != ReplicaState::kCurrent) co_return;
  co_await mark(source, ReplicaState::kBad, {{.chunk = chunk, .version = found->version}});
}

Task<std::vector<ChunkKeeper::Impl::Answer>> ChunkKeeper::Impl::order_copies(ChunkId chunk, uint64_t version,
                                                                             ServerId source,
                                                                             std::vector<ServerId> targets, bool seal) {
  auto round = std::make_shared<Round>(core.world().executor());
  round->waiting = targets.size();
  for (ServerId target : targets)
    tasks.spawn(order_copy_one(chunk, version, source, target, seal, round));
  while (round->waiting > 0 && !tasks.stop_requested())
    co_await round->changed.wait();
  std::ranges::sort(round->answers, {}, &Answer::server);
  co_return std::move(round->answers);
}

Task<Result<ChunkKeeper::Impl::Raised>> ChunkKeeper::Impl::raise(ChunkId chunk, SessionId session,
                                                                 std::vector<ServerId> without, bool full,
                                                                 std::vector<ServerId> joiners) {
  Result<ChunkRecord> found = co_await record(chunk);
  if (!found) co_return found.error();
  ChunkRecord record = std::move(*found);
  BeginRaise begin;
  begin.chunk = chunk;
  begin.expected_version = record.version;
  begin.expected_state = record.state;
  begin.expected_pending = record.pending ? record.pending->version : 0;
  begin.session = session;
  size_t copies = 0;
  for (const ReplicaRecord& replica : record.replicas) {
    if (replica.state != ReplicaState::kCurrent || contains(without, replica.server) || !servers.alive(replica.server))
      continue;
    begin.survivors.push_back(replica.server);
    ++copies;
  }
  // A writer who met full servers hears that there is no room, not that it should wait for servers.
  if (copies == 0 && full)
    co_return Error(ErrorCode::kNoSpace, "no chunkserver has room for chunk " + to_string(chunk));
  if (copies == 0) co_return Error(ErrorCode::kTooFewReplicas, "no replica of chunk " + to_string(chunk) + " answers");
  // A writer goes on with what is left, if that is enough; repair brings the rest. A full server's place is taken at
  // once.
  size_t wanted = full ? record.goal : record.min_copies;
  if (session && joiners.empty() && copies < wanted) {
    ChooseRequest choose;
    choose.count = static_cast<uint32_t>(wanted - copies);
    choose.count_min = static_cast<uint32_t>(record.min_copies > copies ? record.min_copies - copies : 1);
    for (const ReplicaRecord& replica : record.replicas)
      choose.members.push_back(replica.server);
    choose.excluded = without;
    Result<std::vector<ServerId>> chosen = choose_servers(servers.view(), choose, core.world().random().next_u64());
    if (chosen) {
      joiners = std::move(*chosen);
    } else if (full) {
      // That is what the writer asked about, also where no other server is there at all: asking again and again would
      // not make room.
      co_return Error(ErrorCode::kNoSpace, "no other chunkserver has room for chunk " + to_string(chunk));
    } else if (copies < record.min_copies) {
      // Also if the others are full: those that do not answer may come back, and what the writer keeps is not lost yet.
      co_return Error(ErrorCode::kTooFewReplicas, "chunk " + to_string(chunk) + ": " + chosen.error().message());
    }
  }
  begin.joiners = joiners;
  std::vector<ServerId> survivors = begin.survivors;
  Result<RaiseBegun> begun = co_await core.propose_for<RaiseBegun>(std::move(begin));
  if (!begun) co_return begun.error();
  std::vector<Answer> answers = co_await order_raise(chunk, record.version, begun->version, survivors);
  if (answers.empty())
    co_return Error(ErrorCode::kTooFewReplicas, "no replica of chunk " + to_string(chunk) + " answers");
  if (session) {
    Result<Raised> raised =
        co_await finish_for_writer(chunk, begun->version, std::move(record), std::move(answers), joiners);
    co_return raised;
  }
  Result<Raised> raised = co_await finish_recovery(chunk, begun->version, std::move(record), std::move(answers), full);
  co_return raised;
}

// The writer holds everything after the last durable point and sends it again from the lowest sequence of the new set:
// survivors need not be equal.
Task<Result<ChunkKeeper::Impl::Raised>> ChunkKeeper::Impl::finish_for_writer(ChunkId chunk, uint64_t version,
                                                                             ChunkRecord record,
                                                                             std::vector<Answer> answers,
                                                                             std::vector<ServerId> joiners) {
  std::vector<Answer> members;
  std::vector<ServerId> to_fill = std::move(joiners);
  for (Answer& answer : answers) {
    if (answer.found) {
      members.push_back(std::move(answer));
    } else {
      to_fill.push_back(answer.server);
    }
  }
  Raised raised;
  raised.version = version;
  if (members.empty()) {  // nothing was ever written: the first write makes the chunk, under the new version
    for (ServerId server : to_fill) {
      Answer answer;
      answer.server = server;
      members.push_back(answer);
    }
    to_fill.clear();
  } else {
    raised.sequence = UINT64_MAX;
    const Answer* source = &members.front();
    for (const Answer& answer : members) {
      raised.sequence = std::min(raised.sequence, answer.status.sequence);
      raised.length = std::max(raised.length, answer.status.length);
      if (answer.status.sequence > source->status.sequence) source = &answer;
    }
    if (!to_fill.empty()) {
      std::vector<Answer> filled = co_await order_copies(chunk, version, source->server, to_fill, false);
      for (Answer& answer : filled) {
        raised.sequence = std::min(raised.sequence, answer.status.sequence);
        members.push_back(std::move(answer));
      }
    }
  }
  if (members.size() < record.min_copies) {
    co_return Error(ErrorCode::kTooFewReplicas, std::to_string(members.size()) + " of " +
                                                    std::to_string(record.min_copies) + " replicas of chunk " +
                                                    to_string(chunk) + " can take writes");
  }
  FinishRaise finish;
  finish.chunk = chunk;
  finish.version = version;
  for (const Answer& answer : members) {
    finish.replicas.push_back(
        {.server = answer.server, .state = ReplicaState::kCurrent, .incarnation = answer.incarnation});
    raised.replicas.push_back(answer.server);
  }
  Result<ReplyBody> finished = co_await core.propose(std::move(finish));
  if (!finished) co_return finished.error();
  log_info("master.raised", "chunk={} version={} replicas={} sequence={}", chunk, version, raised.replicas.size(),
           raised.sequence);
  work.notify_all();
  co_return raised;
}

// Equal sequences are equal bytes, unless a machine stopped in between.
bool ChunkKeeper::Impl::same_bytes(const Answer& a, const Answer& b) {
  return a.verified && b.verified && a.status.sequence == b.status.sequence && a.status.length == b.status.length;
}

// Nobody knows what the writer meant to write: the replica with most is right (verified ones first; after a power cut
// the most that is on disk), the others are made equal to it.
Task<Result<ChunkKeeper::Impl::Raised>> ChunkKeeper::Impl::finish_recovery(ChunkId chunk, uint64_t version,
                                                                           ChunkRecord record,
                                                                           std::vector<Answer> answers, bool full) {
  std::erase_if(answers, [](const Answer& answer) { return !answer.found; });
  FinishRaise finish;
  finish.chunk = chunk;
  finish.version = version;
  Raised raised;
  raised.version = version;
  if (answers.empty())
    co_return Error(ErrorCode::kTooFewReplicas, "no replica of chunk " + to_string(chunk) + " has anything");
  auto rank = [](const Answer& answer) { return std::pair(answer.verified, answer.status.sequence); };
  // Without room as little as possible is copied: as most of them are it stays, and in doubt as the fullest has it. A
  // writer that lives gave up the rest, and each of them has what was durable.
  auto alike = [&answers](const Answer& answer) {
    auto count = std::ranges::count_if(answers, [&](const Answer& other) { return same_bytes(answer, other); });
    return std::tuple(answer.verified, count, UINT64_MAX - answer.status.sequence);
  };
  const Answer source =
      full ? *std::ranges::max_element(answers, {}, alike) : *std::ranges::max_element(answers, {}, rank);
  finish.replicas.push_back(
      {.server = source.server, .state = ReplicaState::kCurrent, .incarnation = source.incarnation});
  std::vector<ServerId> others;
  for (const Answer& answer : answers) {
    if (answer.server == source.server) continue;
    if (same_bytes(answer, source)) {
      finish.replicas.push_back(
          {.server = answer.server, .state = ReplicaState::kCurrent, .incarnation = answer.incarnation});
    } else {
      others.push_back(answer.server);
    }
  }
  std::vector<Answer> copied = co_await order_copies(chunk, version, source.server, others, true);
  for (const Answer& answer : copied) {
    finish.replicas.push_back(
        {.server = answer.server, .state = ReplicaState::kCurrent, .incarnation = answer.incarnation});
  }
  size_t wanted = std::min<size_t>(record.min_copies, record.current_copies());
  if (finish.replicas.size() < std::min(wanted, answers.size())) {
    co_return Error(ErrorCode::kTooFewReplicas, "chunk " + to_string(chunk) + ": its copies could not be made equal");
  }
  // On disk and closed everywhere before the record says so.
  for (const ReplicaSpec& replica : finish.replicas) {
    SealChunkRequest seal;
    seal.chunk = chunk;
    seal.version = version;
    seal.sequence = source.status.sequence;
    auto sealed = co_await order(replica.server, std::move(seal));
    if (!sealed) co_return sealed.error();
    raised.replicas.push_back(replica.server);
  }
  finish.seal = FinishRaise::Seal{.length = source.status.length, .allocated_bytes = source.status.allocated_bytes};
  raised.sequence = source.status.sequence;
  raised.length = source.status.length;
  Result<ReplyBody> finished = co_await core.propose(std::move(finish));
  if (!finished) co_return finished.error();
  log_info("master.recovered", "chunk={} version={} source={} replicas={}", chunk, version, source.server,
           raised.replicas.size());
  work.notify_all();
  co_return raised;
}

Task<Result<void>> ChunkKeeper::Impl::recover(ChunkId chunk) {
  Semaphore::Permit turn = co_await lock(chunk);
  for (int attempt = 0;; ++attempt) {
    Result<ChunkRecord> found = co_await record(chunk);
    if (!found) co_return found.failed_with(ErrorCode::kNotFound) ? Result<void>() : Result<void>(found.error());
    if (found->state == ChunkState::kSealed && !found->pending) co_return Result<void>();
    Result<Raised> raised = co_await raise(chunk, SessionId{}, {}, false, {});
    if (raised) co_return Result<void>();
    // Its writer takes no turn to seal it, and may have done so since its record was read.
    if (!raised.failed_with(ErrorCode::kConflict) || attempt == kConflictsMax) co_return raised.error();
  }
}

// What no file has is read by nobody, and goes with its session.
Task<Result<void>> ChunkKeeper::Impl::settle_given_up(ChunkId chunk) {
  Result<ChunkRecord> found = co_await record(chunk);
  if (!found) co_return found.error();
  if (found->refs == 0) co_return Result<void>();
  Result<Raised> settled = co_await raise(chunk, SessionId{}, {}, true, {});
  if (settled) co_return Result<void>();
  log_warning("master.settling_failed", "chunk={} error={}", chunk, quoted(settled.error().message()));
  // There is not even room to make them equal: the writer is told that there is none, and the raise that is pending is
  // finished when there is.
  if (settled.failed_with(ErrorCode::kTooFewReplicas)) co_return Result<void>();
  co_return settled.error();
}

Task<Result<OpenChunkReply>> ChunkKeeper::Impl::open_reply(ChunkId chunk, SessionId session, Raised raised) {
  Result<ChunkRecord> found = co_await record(chunk);
  if (!found) co_return found.error();
  OpenChunkReply reply;
  reply.grant.chunk = chunk;
  reply.grant.version = raised.version;
  reply.grant.min_copies = found->min_copies;
  for (ServerId server : raised.replicas)
    reply.grant.replicas.push_back(address_of(server));
  reply.grant.capability = sign(chunk, raised.version, session, CapabilityRights::kRead | CapabilityRights::kWrite);
  reply.sequence = raised.sequence;
  reply.length = raised.length;
  co_return reply;
}

}  // namespace cairn
