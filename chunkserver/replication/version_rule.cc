#include "chunkserver/replication/version_rule.h"

#include <algorithm>
#include <string>

#include "common/base/check.h"

namespace cairn {

namespace {

std::string describe(const ReplicaView& view) {
  if (!view.present) return "the chunk is not here";
  std::string out = "version " + std::to_string(view.version) + " with writes up to " + std::to_string(view.taken);
  if (view.sealed) out += ", sealed,";
  return out + " is here";
}

std::string asked(uint64_t version, uint64_t sequence) {
  return ", asked for version " + std::to_string(version) + " sequence " + std::to_string(sequence);
}

}  // namespace

ReplicaView view_of(const ReplicaStatus& status) {
  ReplicaView view;
  view.present = true;
  view.version = status.version;
  view.sealed = status.state == ChunkState::kSealed;
  view.synced = status.synced_sequence;
  view.taken = std::max(status.sequence, status.synced_sequence);
  view.handed = view.taken;
  return view;
}

WriteVerdict judge_write(const ReplicaView& view, uint64_t version, uint64_t sequence) {
  CHECK(view.synced <= view.taken && view.taken <= view.handed);
  if (version < view.version) return WriteVerdict::kOldVersion;
  if (!view.present) return sequence == 1 ? WriteVerdict::kTake : WriteVerdict::kWait;
  if (version > view.version) return WriteVerdict::kNewVersion;
  if (sequence <= view.taken) return WriteVerdict::kDone;
  if (view.sealed) return WriteVerdict::kOldVersion;
  // One that is on its way already is given to the store again: it waits there for the same end.
  if (sequence <= view.handed + 1) return WriteVerdict::kTake;
  return WriteVerdict::kWait;
}

SyncVerdict judge_sync(const ReplicaView& view, uint64_t version, uint64_t sequence) {
  if (!view.present) return SyncVerdict::kMissingWrites;
  if (version < view.version) return SyncVerdict::kOldVersion;
  if (version > view.version) return SyncVerdict::kNewVersion;
  if (sequence <= view.taken) return SyncVerdict::kSync;
  if (sequence <= view.handed) return SyncVerdict::kWait;
  return SyncVerdict::kMissingWrites;
}

Error refusal(WriteVerdict verdict, const ReplicaView& view, uint64_t version, uint64_t sequence) {
  ErrorCode code = ErrorCode::kMissingWrites;
  if (verdict == WriteVerdict::kOldVersion) code = ErrorCode::kOldVersion;
  if (verdict == WriteVerdict::kNewVersion) code = ErrorCode::kNewVersion;
  return Error(code, describe(view) + asked(version, sequence));
}

Error refusal(SyncVerdict verdict, const ReplicaView& view, uint64_t version, uint64_t sequence) {
  ErrorCode code = ErrorCode::kMissingWrites;
  if (verdict == SyncVerdict::kOldVersion) code = ErrorCode::kOldVersion;
  if (verdict == SyncVerdict::kNewVersion) code = ErrorCode::kNewVersion;
  return Error(code, describe(view) + asked(version, sequence));
}

ReplicaAck acknowledge(ServerId server, uint64_t incarnation, const ReplicaView& view) {
  ReplicaAck ack;
  ack.server = server;
  ack.incarnation = incarnation;
  ack.sequence = view.taken;
  ack.synced_sequence = view.synced;
  return ack;
}

ReplicaAck acknowledge(ServerId server, uint64_t incarnation, const ReplicaView& view, const Error& error) {
  ReplicaAck ack = acknowledge(server, incarnation, view);
  ErrorCode code = error.code == ErrorCode::kNotFound ? ErrorCode::kMissingWrites : error.code;
  ack.error = static_cast<uint16_t>(code);
  ack.context = error.context;
  return ack;
}

}  // namespace cairn
