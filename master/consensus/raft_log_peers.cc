// Messages to and from other masters.
#include <utility>

#include "common/base/log.h"
#include "master/consensus/raft_log.h"

namespace cairn {

namespace {
constexpr uint64_t kPieceBytes = 512 * kKiB;       // of entries in one message
constexpr uint64_t kUnappliedMaxBytes = 64 * kMiB;  // a follower whose state is so far behind takes no more for now
constexpr Duration kComplaintInterval = std::chrono::seconds(10);
}  // namespace

// ---------------------------------------------------------------- to others

void RaftLog::take_messages(const CairnRaftUpdate& update) {
  if (peers_ == nullptr) return;
  for (unsigned i = 0; i < update.n_messages; ++i) {
    const CairnRaftMessage& core = update.messages[i];
    messages_.push_back({term_number_, core, MasterId(core.peer), core.peer_address});
    messages_.back().core.peer_address = nullptr;
  }
  send_waiting_messages();
}

void RaftLog::send_waiting_messages() {
  while (!messages_.empty() && messages_.front().number <= writer_->durable_number()) {
    WaitingMessage waiting = std::move(messages_.front());
    messages_.pop_front();
    const CairnRaftMessage& core = waiting.core;
    if (core.type == CAIRN_RAFT_MESSAGE_APPEND_ENTRIES && core.n_entries > 0) {
      std::optional<std::vector<RaftEntryPtr>> entries = remembered(core.index + 1, core.n_entries);
      if (entries) {
        send_entries(core, waiting.to, waiting.address, *entries);
      } else {
        tasks_.spawn(send_stored_entries(core, waiting.to, std::move(waiting.address)));
      }
      continue;
    }
    RaftMessage message;
    message.core = core;
    // With a checkpoint goes where the log behind it begins: perhaps that is enough.
    if (core.type == CAIRN_RAFT_MESSAGE_INSTALL_SNAPSHOT) message.core.commit = cairn_raft_first_index(core_);
    send(waiting.to, waiting.address, std::move(message));
  }
}

void RaftLog::send(MasterId to, const std::string& address, RaftMessage message) {
  if (peers_ == nullptr) return;
  const MasterIdentity& identity = folder_->identity();
  message.cluster = identity.cluster;
  message.from = identity.master;
  message.from_address = identity.address;
  message.to = to;
  peers_->send(to, address, encode_raft_message(message));
}

std::optional<std::vector<RaftEntryPtr>> RaftLog::remembered(LogIndex from, uint64_t count) const {
  if (remembered_.empty() || from < remembered_.front()->index) return std::nullopt;
  if (from + count - 1 > remembered_.back()->index) return std::nullopt;
  std::vector<RaftEntryPtr> entries;
  for (LogIndex index = from; index < from + count; ++index)
    entries.push_back(remembered_[index - remembered_.front()->index]);
  return entries;
}

// In pieces of a bounded size. A change of the group begins a piece: libraft gives a change that is not the first entry
// of its message a wrong index (design.md 3.5, M2).
void RaftLog::send_entries(const CairnRaftMessage& core, MasterId to, const std::string& address,
                           std::span<const RaftEntryPtr> entries) {
  RaftMessage message;
  message.core = core;
  uint64_t bytes = 0;
  for (const RaftEntryPtr& entry : entries) {
    bool full = bytes + entry->payload.size() > kPieceBytes || entry->type == CAIRN_RAFT_CHANGE;
    if (full && !message.entries.empty()) {
      LogIndex next = message.core.index + message.entries.size();
      uint64_t next_term = message.entries.back().term;
      send(to, address, std::move(message));
      message = RaftMessage();
      message.core = core;
      message.core.index = next;
      message.core.log_term = next_term;
      bytes = 0;
    }
    message.entries.push_back({entry->term, entry->type, entry->payload});
    bytes += entry->payload.size();
  }
  send(to, address, std::move(message));
}

Task<void> RaftLog::send_stored_entries(CairnRaftMessage core, MasterId to, std::string address) {
  Term sent_in = term();
  Result<std::vector<StoredEntry>> stored = co_await files_pool_->run(
      [&store = *store_, from = core.index + 1]() { return store.read(from, kPieceBytes); });
  // Entries of a later leadership must not go out under this one's name.
  if (failed_ || retired_ || !leading_ || term() != sent_in) co_return;
  if (!stored) {
    // Purged meanwhile: the follower will say what it lacks.
    if (!stored.failed_with(ErrorCode::kNotFound) && !stored.failed_with(ErrorCode::kCancelled)) fail(stored.error());
    co_return;
  }
  std::vector<RaftEntryPtr> entries;
  for (StoredEntry& entry : *stored) {
    if (entries.size() == core.n_entries) break;
    entries.push_back(std::make_shared<RaftEntry>(RaftEntry{
        .index = entry.index, .term = entry.term, .type = entry.type, .payload = std::move(entry.payload)}));
  }
  send_entries(core, to, address, entries);
}

// ---------------------------------------------------------------- from others

bool RaftLog::is_member(MasterId master) const {
  for (unsigned i = 0; i < cairn_raft_member_count(core_); ++i) {
    if (cairn_raft_member(core_, i).id == master.value) return true;
  }
  return false;
}

void RaftLog::receive(std::string_view bytes) {
  if (failed_ || retired_ || core_ == nullptr) return;
  Result<RaftMessage> message = decode_raft_message(bytes);
  const MasterIdentity& identity = folder_->identity();
  std::string complaint;
  if (!message) {
    complaint = message.error().message();
  } else if (message->cluster != identity.cluster) {
    complaint = "master " + to_string(message->from) + " at " + message->from_address + " belongs to cluster " +
                to_string(message->cluster);
  } else if (message->from == identity.master) {
    complaint = "another master, at " + message->from_address + ", has this one's id " + to_string(identity.master) +
                ": was its folder copied? Stop it, empty its folder and add it anew";
  } else if (message->to != identity.master) {
    complaint = "a message from " + message->from_address + " is for master " + to_string(message->to) +
                ", which was at this address before; remove it from the group";
  }
  if (!complaint.empty()) {
    if (clock_.now() - complained_ < kComplaintInterval && complained_ != TimePoint{}) return;
    complained_ = clock_.now();
    log_error("master.strange_message", "error={}", quoted(complaint));
    return;
  }
  heard_[message->from] = clock_.now();
  switch (message->core.type) {
    case kReadProbe:
      return on_read_probe(*message);
    case kReadEcho:
      return on_read_echo(*message);
    case kRemoved:
      if (!std::exchange(removed_, true))
        log_error("master.removed", "by={}", message->from_address);
      return;
    case CAIRN_RAFT_MESSAGE_INSTALL_SNAPSHOT:
      return on_snapshot_offer(*message);
    case CAIRN_RAFT_MESSAGE_REQUEST_VOTE:
      if (leading_ && !is_member(message->from)) {
        RaftMessage removed;
        removed.core.type = kRemoved;
        removed.core.term = term();
        return send(message->from, message->from_address, std::move(removed));
      }
      return step_received(*message);
    default:
      return step_received(*message);
  }
}

// Whether the entries of a message may be taken now. They come again.
bool RaftLog::can_take(const RaftMessage& message) const {
  uint64_t bytes = 0;
  for (const RaftMessage::Entry& entry : message.entries)
    bytes += record_size(entry.payload.size());
  return bytes + kMaxEntryBytes <= room_bytes() && unapplied_bytes_ <= kUnappliedMaxBytes;
}

void RaftLog::step_received(const RaftMessage& message) {
  CairnRaftMessage core = message.core;
  core.peer = message.from.value;
  core.peer_address = message.from_address.c_str();
  std::vector<CairnRaftEntry> entries;
  std::vector<std::shared_ptr<RaftEntry>> receiving;
  if (core.type == CAIRN_RAFT_MESSAGE_APPEND_ENTRIES && !message.entries.empty()) {
    if (can_take(message)) {
      for (const RaftMessage::Entry& entry : message.entries) {
        receiving.push_back(std::make_shared<RaftEntry>(
            RaftEntry{.term = entry.term, .type = entry.type, .payload = std::string(entry.payload)}));
        const std::string& payload = receiving.back()->payload;
        entries.push_back({entry.term, entry.type, payload.data(), payload.size()});
      }
    } else {
      core.n_entries = 0;  // the leader is heard all the same
    }
  }
  cairn_raft_set_capacity(core_, static_cast<uint16_t>(std::min<uint64_t>(room_bytes() / kKiB, UINT16_MAX)));
  receiving_ = std::move(receiving);
  receiving_from_ = core.index + 1;
  CairnRaftUpdate update;
  int status = cairn_raft_receive(core_, now_ms(), &core, entries.data(), &update);
  after_step(status, update);
  receiving_.clear();
}

}  // namespace cairn
