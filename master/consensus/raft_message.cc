#include "master/consensus/raft_message.h"

#include "common/base/bytes.h"

namespace cairn {

namespace {
constexpr uint8_t kVersion = 1;
enum Flags : uint8_t { kVoteGranted = 1, kPreVote = 2, kDisruptLeader = 4 };
constexpr uint64_t kMaxEntries = 4096;  // of one message; a bound for the reader

Error bad(const char* what) {
  return Error(ErrorCode::kBadMessage, std::string("a message of another master: ") + what);
}
}  // namespace

std::string encode_raft_message(const RaftMessage& message) {
  size_t size = 128 + message.from_address.size();
  for (const RaftMessage::Entry& entry : message.entries)
    size += entry.payload.size() + 16;
  ByteWriter out(size);
  out.u8(kVersion);
  out.u8(static_cast<uint8_t>(message.core.type));
  out.u64(message.cluster.value);
  out.u64(message.from.value);
  out.string(message.from_address);
  out.u64(message.to.value);
  out.u64(message.core.term);
  out.u64(message.core.index);
  out.u64(message.core.log_term);
  out.u64(message.core.commit);
  out.u64(message.core.rejected);
  uint8_t flags = 0;
  if (message.core.vote_granted) flags |= kVoteGranted;
  if (message.core.pre_vote) flags |= kPreVote;
  if (message.core.disrupt_leader) flags |= kDisruptLeader;
  out.u8(flags);
  out.u16(message.core.features);
  out.u16(message.core.capacity_kib);
  out.varint(message.entries.size());
  for (const RaftMessage::Entry& entry : message.entries) {
    out.u64(entry.term);
    out.u8(entry.type);
    out.string(entry.payload);
  }
  return out.take();
}

Result<RaftMessage> decode_raft_message(std::string_view bytes) {
  ByteReader in(bytes);
  uint8_t version = in.u8();
  if (!in.ok()) return bad("empty");
  if (version != kVersion) {
    return Error(ErrorCode::kNotSupported,
                 "a message of another master has version " + std::to_string(version) + "; this one knows 1");
  }
  RaftMessage message;
  message.core.type = in.u8();
  message.cluster = ClusterId(in.u64());
  message.from = MasterId(in.u64());
  message.from_address = std::string(in.string());
  message.to = MasterId(in.u64());
  message.core.term = in.u64();
  message.core.index = in.u64();
  message.core.log_term = in.u64();
  message.core.commit = in.u64();
  message.core.rejected = in.u64();
  uint8_t flags = in.u8();
  message.core.vote_granted = (flags & kVoteGranted) != 0;
  message.core.pre_vote = (flags & kPreVote) != 0;
  message.core.disrupt_leader = (flags & kDisruptLeader) != 0;
  message.core.features = in.u16();
  message.core.capacity_kib = in.u16();
  uint64_t count = in.varint();
  if (!in.ok() || count > kMaxEntries) return bad("it is cut short, or has too many entries");
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    RaftMessage::Entry entry;
    entry.term = in.u64();
    entry.type = in.u8();
    entry.payload = in.string();
    if (entry.term == 0 || entry.type < CAIRN_RAFT_COMMAND || entry.type > CAIRN_RAFT_CHANGE)
      return bad("an entry of unknown type, or without a term");
    message.entries.push_back(entry);
  }
  if (!in.ok() || !in.at_end()) return bad("it is cut short, or too long");
  if (!message.from || !message.to || message.core.term == 0) return bad("it does not say from whom, to whom, or of which term");
  message.core.n_entries = static_cast<uint32_t>(message.entries.size());
  return message;
}

std::string encode_checkpoint_question(const CheckpointQuestion& question) {
  ByteWriter out;
  out.u8(kVersion);
  out.u8(question.part ? 1 : 0);
  out.u64(question.cluster.value);
  out.u64(question.to.value);
  out.u64(question.index);
  out.u64(question.term);
  out.string(question.file);
  out.u64(question.offset);
  out.u32(question.length);
  return out.take();
}

Result<CheckpointQuestion> decode_checkpoint_question(std::string_view bytes) {
  ByteReader in(bytes);
  uint8_t version = in.u8();
  if (in.ok() && version != kVersion)
    return Error(ErrorCode::kNotSupported, "a question of another master has version " + std::to_string(version));
  CheckpointQuestion question;
  question.part = in.u8() != 0;
  question.cluster = ClusterId(in.u64());
  question.to = MasterId(in.u64());
  question.index = in.u64();
  question.term = in.u64();
  question.file = std::string(in.string());
  question.offset = in.u64();
  question.length = in.u32();
  if (!in.ok() || !in.at_end()) return bad("a question that is cut short, or too long");
  return question;
}

}  // namespace cairn
