// Sessions begin, go on and end, by log time; and the tick that moves it.
#include <algorithm>

#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

constexpr uint64_t kSessionsMax = 65536;
// Records that one tick removes: a few thousand changes, tens of milliseconds.
constexpr uint32_t kWorkPerTick = 1024;

bool has_open_chunk(const Transaction& tx, SessionId session) {
  const std::string prefix = keys::prefix(keys::Kind::kOpenChunk, session.value);
  bool found = false;
  tx.scan(prefix, prefix, [&](std::string_view, std::string_view) {
    found = true;
    return false;
  });
  return found;
}

bool expired(const Transaction& tx, const ClusterRecord& cluster, const SessionRecord& session) {
  // After a failover every session has its full time again: no leader's absence, and no change of leaders, costs it
  // anything.
  const uint64_t since = std::max(session.renewed_ms, tx.counters().term_began_ms);
  return since + cluster.session_ms <= tx.counters().log_time_ms;
}

}  // namespace

Reply apply_command(Transaction& tx, const OpenSession& open) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster) return ErrorCode::kUnavailable;
  if (tx.counters().sessions >= kSessionsMax) return Error(ErrorCode::kOverload, "sessions");
  const SessionId id{tx.counters().next_session++};
  const uint64_t now = tx.counters().log_time_ms;
  tx.put_session(id, SessionRecord{.host = open.host,
                                   .mountpoint = open.mountpoint,
                                   .program = open.program,
                                   .opened_ms = now,
                                   .renewed_ms = now});
  ++tx.counters().sessions;
  return ReplyBody{OpenSessionReply{.session = id,
                                    .term = tx.context().term,
                                    .duration_ms = cluster->session_ms,
                                    .now = tx.context().wall_ns,
                                    .cluster = cluster->cluster}};
}

Reply apply_command(Transaction& tx, const RenewSessions& renew) {
  RenewSessionsReply reply;
  for (SessionId id : renew.sessions) {
    std::optional<SessionRecord> session = tx.session(id);
    if (!session || session->ended) {
      reply.ended.push_back(id);
      continue;
    }
    session->renewed_ms = tx.counters().log_time_ms;
    tx.put_session(id, std::move(*session));
  }
  return ReplyBody{std::move(reply)};
}

void end_session(Transaction& tx, SessionId id, SessionRecord session) {
  session.ended = true;
  tx.put_session(id, std::move(session));
  --tx.counters().sessions;
  push_work(tx, {.kind = WorkRecord::Kind::kEndSession, .session = id});
}

Reply apply_command(Transaction& tx, const EndSession& end) {
  std::optional<SessionRecord> session = tx.session(end.session);
  if (session && !session->ended) end_session(tx, end.session, std::move(*session));
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const Tick&) {
  TickReply reply;
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster) return ReplyBody{std::move(reply)};
  // One opened in this entry cannot have run out, and one that had time before it has it still.
  for (const auto& [id, before] : tx.sessions_before()) {
    if (!before.ended && !expired(tx, *cluster, before)) continue;
    if (before.ended && !before.cleaned) continue;
    std::optional<SessionRecord> session = tx.session(id);
    if (!session) continue;
    if (session->ended) {
      if (session->cleaned && !has_open_chunk(tx, id)) tx.erase_session(id);
    } else if (expired(tx, *cluster, *session)) {
      end_session(tx, id, std::move(*session));
      reply.ended.push_back(id);
    }
  }
  do_work(tx, kWorkPerTick);
  return ReplyBody{std::move(reply)};
}

}  // namespace cairn
