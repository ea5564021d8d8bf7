// A session's operation, exactly once: the reply is kept under its sequence number, and a repeat gets it again and
// changes nothing.
#include <algorithm>
#include <utility>

#include "master/namespace/ops/ops.h"
#include "master/namespace/reply_codec.h"

namespace cairn {
namespace {

// A session's mutations that may be unacknowledged at once: bounds the replies that are kept.
constexpr uint64_t kUnacknowledgedMax = 4096;

// How far a client's idea of the time may be ahead of the leader's: a broken clock there must not put ctimes into next
// year.
constexpr int64_t kClockAheadMaxNs = 10'000'000'000;

FileTime time_of(const SessionMutation& m, int64_t wall_ns) {
  return m.now != 0 ? std::min(m.now, wall_ns + kClockAheadMaxNs) : wall_ns;
}

Result<void> check_window(const SessionRecord& session, const SessionMutation& m) {
  const uint64_t first = std::max(session.first_unacknowledged, m.first_unacknowledged);
  if (m.sequence < session.first_unacknowledged || m.sequence < m.first_unacknowledged) {
    return Error(ErrorCode::kBadMessage, "the sequence was acknowledged before");
  }
  if (m.sequence - first >= kUnacknowledgedMax) return Error(ErrorCode::kBadMessage, "too many unacknowledged");
  return {};
}

// A mutation that was seen before, or none.
std::optional<Reply> stored_reply(Transaction& tx, const SessionRecord& session, const SessionMutation& m) {
  if (m.sequence > session.highest_sequence) return std::nullopt;
  std::optional<std::string> bytes = tx.raw(keys::reply(m.session, m.sequence));
  if (!bytes) return std::nullopt;  // it was overtaken by a later one
  Result<Result<MutationReply>> reply = decode_reply(*bytes);
  if (!reply) return Reply(reply.error());
  if (!*reply) return Reply(reply->error());
  (*reply)->repeated = true;
  return Reply(std::move(**reply));
}

void drop_acknowledged(Transaction& tx, SessionId id, SessionRecord& session, uint64_t first) {
  if (first <= session.first_unacknowledged) return;
  // Nothing is stored above the highest one seen: bounded by kUnacknowledgedMax.
  const uint64_t end = std::min(first, session.highest_sequence + 1);
  for (uint64_t sequence = session.first_unacknowledged; sequence < end; ++sequence)
    tx.erase(keys::reply(id, sequence));
  session.first_unacknowledged = first;
}

}  // namespace

Reply apply_command(Transaction& tx, const SessionMutation& m) {
  std::optional<SessionRecord> session = tx.session(m.session);
  if (!session || session->ended) return Error(ErrorCode::kSessionEnded, to_string(m.session));
  if (Result<void> allowed = check_window(*session, m); !allowed) return allowed.error();
  if (std::optional<Reply> again = stored_reply(tx, *session, m)) return std::move(*again);
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster) return ErrorCode::kUnavailable;

  OpContext op{tx, *cluster, m.session, time_of(m, tx.context().wall_ns)};
  tx.savepoint();
  Result<MutationReply> reply = std::visit([&](const auto& what) { return apply_op(op, what); }, m.op);
  if (!reply) tx.rollback();

  drop_acknowledged(tx, m.session, *session, m.first_unacknowledged);
  session->highest_sequence = std::max(session->highest_sequence, m.sequence);
  tx.put_session(m.session, std::move(*session));
  tx.put(keys::reply(m.session, m.sequence), encode_reply(reply));
  if (!reply) return reply.error();
  return std::move(*reply);
}

}  // namespace cairn
