#include "fs/client/chunk_writer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

namespace {
constexpr Duration kCapabilityAge = std::chrono::minutes(20);  // of an hour
constexpr uint32_t kSmallWriteBytes = 64 * 1024;
constexpr Duration kRepairPause = std::chrono::milliseconds(200);

// The master's word that this session may not go on with the chunk; anything else is worth asking again.
bool final_refusal(ErrorCode code) {
  switch (code) {
    case ErrorCode::kIo:  // no master within the request's time: it may come back
    case ErrorCode::kTimeout:
    case ErrorCode::kUnavailable:
    case ErrorCode::kNotLeader:
    case ErrorCode::kOverload:
    case ErrorCode::kTooFewReplicas:
      return false;
    default:
      return true;
  }
}
}  // namespace

std::vector<uint32_t> piece_checksums(uint32_t offset, const Payload& data) {
  std::vector<uint32_t> sums;
  sums.reserve(payload_size(data) / kBlockSizeBytes + 2);
  uint64_t left = kBlockSizeBytes - offset % kBlockSizeBytes;  // of the current piece
  uint32_t sum = 0;
  bool open = false;
  for (const Buffer& buffer : data) {
    std::span<const std::byte> rest = buffer.span();
    while (!rest.empty()) {
      std::span<const std::byte> part = rest.first(std::min<uint64_t>(left, rest.size()));
      sum = crc32c(part, sum);
      open = true;
      rest = rest.subspan(part.size());
      left -= part.size();
      if (left == 0) {
        sums.push_back(std::exchange(sum, 0));
        open = false;
        left = kBlockSizeBytes;
      }
    }
  }
  if (open) sums.push_back(sum);
  return sums;
}

ChunkWriter::ChunkWriter(World& world, MasterLink& master, ServerPool& servers, Owner owner, ChunkGrant grant,
                         uint64_t sequence, uint64_t length, uint32_t limit)
    : world_(world),
      master_(master),
      servers_(servers),
      owner_(owner),
      grant_(std::move(grant)),
      last_(sequence),
      synced_(sequence),
      length_(static_cast<uint32_t>(length)),
      granted_at_(world.clock().now()),
      changed_(world.executor()),
      tasks_(world.executor(), world.clock()) {
  if (limit != UINT32_MAX) {
    submit(WriteKind::kTruncate, limit, 0, {}, {}, false);
    trimmed_ = true;
  }
}

void ChunkWriter::submit(WriteKind kind, uint32_t offset, uint32_t length, Payload data,
                         std::vector<Semaphore::Permit> permits, bool sync) {
  if (broken_) return;
  Write write;
  write.kind = kind;
  write.offset = offset;
  write.length = length;
  write.checksums = piece_checksums(offset, data);
  write.data = std::move(data);
  write.sync = sync;
  write.permits = std::move(permits);
  if (kind == WriteKind::kData) length_ = std::max(length_, offset + length);
  if (kind == WriteKind::kTruncate) length_ = std::min(length_, offset);
  retained_bytes_ += payload_size(write.data);
  allocated_.reset();  // until it is on disk everywhere
  ++unaccepted_;
  uint64_t sequence = ++last_;
  retained_.emplace(sequence, std::move(write));
  tasks_.spawn(send(sequence));
}

ChunkWriteRequest ChunkWriter::request_for(uint64_t sequence, const Write& write) const {
  ChunkWriteRequest request;
  request.capability = grant_.capability;
  request.chunk = grant_.chunk;
  request.version = grant_.version;
  request.sequence = sequence;
  request.kind = write.kind;
  request.offset = write.offset;
  request.length = write.length;
  request.checksums = write.checksums;
  request.sync = write.sync;
  request.inode = owner_.inode;
  request.index = owner_.index;
  request.file_size_bytes = owner_.index * kChunkSizeBytes + length_;
  return request;
}

Task<void> ChunkWriter::send(uint64_t sequence) {
  while (!broken_ && !tasks_.stop_requested()) {
    while (repairing_ && !tasks_.stop_requested())
      co_await changed_.wait();
    auto found = retained_.find(sequence);
    if (broken_ || found == retained_.end() || found->second.accepted) co_return;
    co_await renew_capability();
    found = retained_.find(sequence);
    if (broken_ || repairing_ || found == retained_.end()) continue;
    uint64_t version = grant_.version;
    std::vector<ServerId> failed;
    std::vector<ReplicaAck> behind;
    std::string reason;
    std::vector<ReplicaAck> acks = co_await deliver(sequence, found->second, failed, reason);
    if (version != grant_.version) continue;  // the chain has changed meanwhile: once more, to the new one
    note_acks(acks);
    if (all_accepted(version, acks, failed, reason, behind)) {
      accepted(sequence);
      co_return;
    }
    for (const ReplicaAck& ack : behind) {
      Result<void> caught_up = co_await catch_up(ack.server, ack.sequence, version);
      if (!caught_up) {
        failed.push_back(ack.server);
        reason = caught_up.error().message();
      }
    }
    if (version != grant_.version || (failed.empty() && !behind.empty())) continue;
    co_await repair(version, std::move(failed), std::move(reason));
  }
}

// Sends one write to all replicas. A small one goes to each from here, which takes one latency of the network; a large
// one down the chain, so that it crosses this machine's link once.
Task<std::vector<ReplicaAck>> ChunkWriter::deliver(uint64_t sequence, const Write& write, std::vector<ServerId>& failed,
                                                   std::string& reason) {
  ChunkWriteRequest request = request_for(sequence, write);
  Payload data = write.data;
  std::vector<ReplicaAddress> heads = grant_.replicas;
  if (payload_size(write.data) > kSmallWriteBytes) {
    heads.resize(1);
    request.chain.assign(grant_.replicas.begin() + 1, grant_.replicas.end());
  }
  std::vector<Future<ChunkWriteReply>> waiting;
  waiting.reserve(heads.size());
  for (const ReplicaAddress& head : heads) {
    Promise<ChunkWriteReply> promise(world_.executor());
    waiting.push_back(promise.future());
    tasks_.spawn(ask_to_write(head, request, data, std::move(promise)));
  }
  std::vector<ReplicaAck> acks;
  for (size_t i = 0; i < heads.size(); ++i) {
    Result<ChunkWriteReply> reply = co_await std::move(waiting[i]);
    if (reply) {
      std::ranges::move(reply->acks, std::back_inserter(acks));
    } else {
      failed.push_back(heads[i].server);
      reason = reply.error().message();
    }
  }
  co_return acks;
}

Task<void> ChunkWriter::ask_to_write(ReplicaAddress replica, ChunkWriteRequest request, Payload data,
                                     Promise<ChunkWriteReply> done) {
  if (servers_.silent(replica.address)) {  // it leaves the chain without anybody waiting for it once more
    done.set(ServerPool::silence(replica.address));
    co_return;
  }
  TimePoint asked = world_.clock().now();
  std::vector<ReplicaAddress> behind = request.chain;
  RpcClient::CallOptions options{.deadline = asked + kChunkWriteDeadline};
  auto answer = co_await typed_call(servers_.client(replica.address), std::move(request), options, std::move(data));
  if (!answer) {
    servers_.note_failure(replica, asked);
    done.set(answer.error());
    co_return;
  }
  servers_.note_success(replica);
  for (const ReplicaAck& ack : answer->reply.acks) {  // those in the chain that the one before could not reach
    ErrorCode code = error_code_from_wire(ack.error);
    if (ack.error == 0 || (code != ErrorCode::kUnavailable && code != ErrorCode::kTimeout)) continue;
    auto found = std::ranges::find(behind, ack.server, &ReplicaAddress::server);
    if (found != behind.end()) servers_.note_failure(*found, asked);
  }
  done.set(std::move(answer->reply));
}

void ChunkWriter::note_acks(const std::vector<ReplicaAck>& acks) {
  for (const ReplicaAck& ack : acks) {
    if (ack.error != 0) continue;
    uint64_t& incarnation = incarnations_[ack.server];
    if (incarnation != ack.incarnation) synced_by_[ack.server] = 0;
    incarnation = ack.incarnation;
    uint64_t& synced = synced_by_[ack.server];
    synced = std::max(synced, ack.synced_sequence);
    if (ack.allocated_bytes != UINT32_MAX) allocated_ = ack.allocated_bytes;
  }
  uint64_t everywhere = UINT64_MAX;
  for (const ReplicaAddress& replica : grant_.replicas) {
    auto found = synced_by_.find(replica.server);
    everywhere = std::min(everywhere, found == synced_by_.end() ? 0 : found->second);
  }
  if (everywhere != UINT64_MAX) note_synced(std::min(everywhere, last_));
}

uint32_t ChunkWriter::allocated_bytes() const {
  uint64_t most = (length_ + kBlockSizeBytes - 1) / kBlockSizeBytes * kBlockSizeBytes;
  return static_cast<uint32_t>(std::min<uint64_t>(most, allocated_.value_or(UINT32_MAX)));
}

bool ChunkWriter::all_accepted(uint64_t version, const std::vector<ReplicaAck>& acks, std::vector<ServerId>& failed,
                               std::string& reason, std::vector<ReplicaAck>& behind) const {
  CHECK(version == grant_.version);
  for (const ReplicaAddress& replica : grant_.replicas) {
    auto ack = std::find_if(acks.begin(), acks.end(), [&](const ReplicaAck& a) { return a.server == replica.server; });
    if (ack == acks.end()) continue;  // behind one that failed: it could not be asked
    ErrorCode code = error_code_from_wire(ack->error);
    if (ack->error == 0) continue;
    if (code == ErrorCode::kMissingWrites) {
      behind.push_back(*ack);
    } else {
      if (code != ErrorCode::kOldVersion && code != ErrorCode::kUnauthorized) failed.push_back(ack->server);
      reason = Error(code, ack->context).message();
    }
  }
  return failed.empty() && behind.empty() && reason.empty() && acks.size() == grant_.replicas.size();
}

Task<Result<void>> ChunkWriter::catch_up(ServerId server, uint64_t from, uint64_t version) {
  auto replica = std::find_if(grant_.replicas.begin(), grant_.replicas.end(),
                              [&](const ReplicaAddress& r) { return r.server == server; });
  if (replica == grant_.replicas.end()) co_return Error(ErrorCode::kInvalid, "not in the chain");
  if (from < synced_) co_return Error(ErrorCode::kMissingWrites, "the replica lost what it had on disk");
  std::string address = replica->address;
  uint64_t last = last_;
  for (uint64_t sequence = from + 1; sequence <= last; ++sequence) {
    auto found = retained_.find(sequence);
    if (broken_ || version != grant_.version) co_return Result<void>();
    if (found == retained_.end()) continue;  // durable everywhere meanwhile
    ChunkWriteRequest request = request_for(sequence, found->second);
    Payload data = found->second.data;
    RpcClient::CallOptions options{.deadline = world_.clock().now() + kChunkWriteDeadline};
    auto answer = co_await typed_call(servers_.client(address), std::move(request), options, std::move(data));
    if (!answer) co_return answer.error();
    note_acks(answer->reply.acks);
    if (answer->reply.acks.empty() || answer->reply.acks.front().error != 0) {
      co_return Error(ErrorCode::kMissingWrites, "the replica does not take what it missed");
    }
  }
  co_return Result<void>();
}

// Asks the master for a chain without the failed replicas, and sends again what the new chain may lack. The master
// raises the version first, so that a replica that was only cut off can never be written or read beside the new chain.
Task<void> ChunkWriter::repair(uint64_t version, std::vector<ServerId> failed, std::string reason) {
  if (repairing_ || broken_ || version != grant_.version) co_return;
  repairing_ = true;
  log_warning("client.replica_failed", "chunk={} version={} failed={} reason={}", grant_.chunk, version,
              failed.empty() ? std::string("none") : to_string(failed.front()), quoted(reason));
  while (!tasks_.stop_requested()) {
    ReplicaFailedRequest request;
    request.chunk = grant_.chunk;
    request.version = version;
    request.failed = failed;
    request.reason = reason;
    auto reply = co_await master_.ask(std::move(request));
    if (!reply && final_refusal(reply.code())) {
      break_with(reply.error());
      break;
    }
    if (!reply) {
      // Too few without them: they may have come back, and the master knows who is there.
      if (reply.failed_with(ErrorCode::kTooFewReplicas)) failed.clear();
      Result<void> slept = co_await tasks_.sleep_for(kRepairPause);
      if (!slept) break;
      continue;
    }
    bool same = reply->grant.version == version;
    grant_ = std::move(reply->grant);
    granted_at_ = world_.clock().now();
    if (same) {  // the master sees nothing wrong with the chain: it may have come back
      Result<void> slept = co_await tasks_.sleep_for(kRepairPause);
      if (!slept) break;
    }
    incarnations_.clear();
    synced_by_.clear();
    note_synced(std::min(reply->sequence, last_));
    for (auto& [sequence, write] : retained_) {
      if (write.accepted) {
        write.accepted = false;
        ++unaccepted_;
        tasks_.spawn(send(sequence));  // waits for the end of this repair
      }
    }
    break;
  }
  repairing_ = false;
  changed_.notify_all();
}

Task<void> ChunkWriter::refused_as_old(uint64_t version) {
  co_await repair(version, {}, "a read was refused as old");
}

void ChunkWriter::accepted(uint64_t sequence) {
  auto found = retained_.find(sequence);
  if (found != retained_.end() && !found->second.accepted) {
    found->second.accepted = true;
    --unaccepted_;
  }
  changed_.notify_all();
}

void ChunkWriter::note_synced(uint64_t sequence) {
  if (sequence <= synced_) return;
  synced_ = sequence;
  auto end = retained_.upper_bound(sequence);
  for (auto it = retained_.begin(); it != end; ++it) {
    retained_bytes_ -= payload_size(it->second.data);
    if (!it->second.accepted) --unaccepted_;
  }
  retained_.erase(retained_.begin(), end);
  changed_.notify_all();
}

void ChunkWriter::break_with(Error error) {
  if (broken_) return;
  log_error("client.chunk_lost", "chunk={} inode={} bytes={} error={}", grant_.chunk, owner_.inode, retained_bytes_,
            quoted(error.message()));
  broken_ = std::move(error);
  retained_.clear();
  retained_bytes_ = 0;
  unaccepted_ = 0;
  changed_.notify_all();
}

Task<void> ChunkWriter::renew_capability() {
  if (granted_at_ + kCapabilityAge > world_.clock().now() || repairing_ || broken_) co_return;
  granted_at_ = world_.clock().now();
  uint64_t version = grant_.version;
  RenewGrantRequest request;
  request.chunk = grant_.chunk;
  auto reply = co_await master_.ask(request);
  if (reply && version == grant_.version && reply->version == version) grant_.capability = std::move(reply->capability);
}

Task<void> ChunkWriter::stop() {
  changed_.notify_all();
  co_await tasks_.stop();
  changed_.notify_all();
}

Task<Result<void>> ChunkWriter::wait_until(TimePoint deadline) {
  if (tasks_.stop_requested()) co_return Error(ErrorCode::kCancelled);
  Result<void> changed = co_await changed_.wait_until(world_.clock(), deadline);
  if (!changed)
    co_return Error(ErrorCode::kIo, "chunk " + to_string(grant_.chunk) + ": its replicas did not answer in time");
  co_return changed;
}

Task<Result<void>> ChunkWriter::wait_for_room(TimePoint deadline) {
  while (!broken_ && unaccepted_ >= kWritesInFlightMax) {
    Result<void> waited = co_await wait_until(deadline);
    if (!waited) co_return waited;
  }
  if (broken_) co_return *broken_;
  co_return Result<void>();
}

Task<Result<void>> ChunkWriter::wait_accepted(TimePoint deadline) {
  while (!broken_ && unaccepted_ > 0) {
    Result<void> waited = co_await wait_until(deadline);
    if (!waited) co_return waited;
  }
  if (broken_) co_return *broken_;
  co_return Result<void>();
}

Task<Result<void>> ChunkWriter::sync(TimePoint deadline) {
  uint64_t target = last_;
  while (synced_ < target) {
    if (tasks_.stop_requested()) co_return Error(ErrorCode::kCancelled);  // nobody repairs it any more
    Result<void> all = co_await wait_accepted(deadline);
    if (!all) co_return all;
    if (synced_ >= target) break;
    uint64_t version = grant_.version;
    uint64_t asked = last_;
    std::vector<ReplicaAddress> replicas = grant_.replicas;
    std::vector<Future<ReplicaAck>> waiting;
    waiting.reserve(replicas.size());
    for (const ReplicaAddress& replica : replicas) {
      ChunkSyncRequest::Item item;
      item.capability = grant_.capability;
      item.chunk = grant_.chunk;
      item.version = version;
      item.sequence = asked;
      item.incarnation = incarnations_[replica.server];
      waiting.push_back(servers_.sync(replica, std::move(item)));
    }
    std::vector<ServerId> failed;
    std::vector<ReplicaAck> acks;
    std::vector<ReplicaAck> behind;
    std::string reason;
    for (size_t i = 0; i < replicas.size(); ++i) {
      Result<ReplicaAck> ack = co_await std::move(waiting[i]);
      if (ack) {
        ack->server = replicas[i].server;
        acks.push_back(std::move(*ack));
      } else {
        failed.push_back(replicas[i].server);
        reason = ack.error().message();
      }
    }
    if (broken_) co_return *broken_;
    if (version != grant_.version) continue;
    note_acks(acks);
    if (synced_ >= target) break;
    bool all_done = all_accepted(version, acks, failed, reason, behind);
    if (all_done) continue;
    for (const ReplicaAck& ack : behind) {
      Result<void> caught_up = co_await catch_up(ack.server, ack.sequence, version);
      if (!caught_up) {
        failed.push_back(ack.server);
        reason = caught_up.error().message();
      }
    }
    if (version != grant_.version || (failed.empty() && !behind.empty())) continue;
    // The repair goes on for as long as it takes; whoever waits for it here does so until the deadline.
    tasks_.spawn(repair(version, std::move(failed), std::move(reason)));
    while (repairing_ && !broken_) {
      Result<void> waited = co_await wait_until(deadline);
      if (!waited) co_return waited;
    }
    if (world_.clock().now() >= deadline)
      co_return Error(ErrorCode::kIo, "chunk " + to_string(grant_.chunk) + ": not on disk in time");
  }
  co_return Result<void>();
}

}  // namespace cairn
