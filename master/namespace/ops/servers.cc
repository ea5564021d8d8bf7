// Chunkservers as the log knows them. Whether one is alive is not in the log: that is what the leader sees now.
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {

Reply apply_command(Transaction& tx, const RegisterServer& server) {
  if (!server.server || server.address.empty()) return ErrorCode::kInvalid;
  RegisterServerResult result;
  std::optional<ServerRecord> known = tx.server(server.server);
  ServerRecord record = known.value_or(ServerRecord{});
  result.is_new = !known;
  result.rebooted = known && known->boot_id != server.boot_id;
  result.restarted = known && known->incarnation != server.incarnation;
  if (result.rebooted) ++record.boots;
  if (result.is_new) ++tx.counters().servers;
  record.address = server.address;
  record.domain = server.domain;
  record.program = server.program;
  record.boot_id = server.boot_id;
  record.incarnation = server.incarnation;
  record.registered_ms = tx.counters().log_time_ms;
  tx.put(keys::server(server.server), encode(record));
  return ReplyBody{result};
}

Reply apply_command(Transaction& tx, const RemoveServer& server) {
  if (!tx.server(server.server)) return ErrorCode::kNotFound;
  bool empty = true;
  const std::string chunks = keys::prefix(keys::Kind::kServerChunk, server.server.value);
  tx.scan(chunks, chunks, [&](std::string_view, std::string_view) {
    empty = false;
    return false;
  });
  if (!empty) return ErrorCode::kNotEmpty;
  return apply_command(tx, DropServer{server.server});
}

Reply apply_command(Transaction& tx, const DropServer& server) {
  if (!tx.server(server.server)) return ErrorCode::kNotFound;
  tx.erase(keys::server(server.server));
  --tx.counters().servers;
  push_work(tx, {.kind = WorkRecord::Kind::kForgetServer, .server = server.server});
  return ReplyBody{EmptyReply{}};
}

}  // namespace cairn
