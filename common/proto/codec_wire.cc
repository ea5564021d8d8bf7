#include "common/proto/codec_wire.h"

#include <array>
#include <capnp/serialize.h>
#include <cstring>
#include <kj/exception.h>

namespace cairn {
namespace {

// The deepest message has six levels (reply, list, struct, list, struct, string).
constexpr int kNestingMax = 16;
// The most usual messages fit; what does not goes on in segments from the heap.
constexpr size_t kScratchWords = 1024;

struct Refusal {
  const char* why;
};

Result<void> bad_message(const char* type, std::string_view why) {
  std::string context = type;
  context.append(": ").append(why);
  return Error(ErrorCode::kBadMessage, std::move(context));
}

void read_words(kj::ArrayPtr<const capnp::word> words, ReadRoot read_root, void* value) {
  // A read() looks at nothing twice, so a message is worth its size once (pointers between segments count a little
  // more): one that refers to the same place from many ends here, and what is made of a message stays in proportion to
  // it.
  capnp::ReaderOptions options;
  options.traversalLimitInWords = 2 * words.size();
  options.nestingLimit = kNestingMax;
  capnp::FlatArrayMessageReader message(words, options);
  if (message.getEnd() != words.end()) refuse("there are bytes after its end");
  read_root(message, value);
}

}  // namespace

void refuse(const char* why) {
  throw Refusal{why};
}

kj::ArrayPtr<capnp::word> scratch_segment() {
  // MallocMessageBuilder leaves it zeroed, as it must find it.
  thread_local std::array<uint64_t, kScratchWords> scratch{};
  return {reinterpret_cast<capnp::word*>(scratch.data()), scratch.size()};
}

std::string flatten(capnp::MessageBuilder& message) {
  auto segments = message.getSegmentsForOutput();
  std::string bytes;
  if (segments.size() == 1) {
    // The usual case of what capnp::messageToFlatArray does, without its second copy.
    const uint32_t table[2] = {0, static_cast<uint32_t>(segments[0].size())};
    bytes.reserve(sizeof(table) + segments[0].asBytes().size());
    bytes.append(reinterpret_cast<const char*>(table), sizeof(table));
    bytes.append(segments[0].asChars().begin(), segments[0].asChars().size());
    return bytes;
  }
  kj::Array<capnp::word> words = capnp::messageToFlatArray(segments);
  bytes.assign(words.asChars().begin(), words.asChars().size());
  return bytes;
}

Result<void> read_message(std::string_view bytes, const char* type, ReadRoot read_root, void* value) {
  if (bytes.size() > kMaxMessageBytes) return bad_message(type, "it is too long");
  if (bytes.size() % sizeof(capnp::word) != 0) return bad_message(type, "it does not end with a whole word");
  const size_t word_count = bytes.size() / sizeof(capnp::word);
  try {
    if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(capnp::word) == 0) {
      read_words({reinterpret_cast<const capnp::word*>(bytes.data()), word_count}, read_root, value);
    } else {
      auto aligned = kj::heapArray<capnp::word>(word_count);
      std::memcpy(aligned.begin(), bytes.data(), bytes.size());
      read_words(aligned, read_root, value);
    }
    return {};
  } catch (const Refusal& refusal) {
    return bad_message(type, refusal.why);
  } catch (const kj::Exception& exception) {
    // Not kj::str(exception): that would start addr2line for the stack trace.
    return bad_message(type, exception.getDescription().cStr());
  }
}

// ---------------------------------------------------------------- types.capnp

wire::FileType wire_of(FileType type) {
  return static_cast<wire::FileType>(type);
}
wire::ChunkState wire_of(ChunkState state) {
  return static_cast<wire::ChunkState>(state);
}

void read(wire::FileType in, FileType& out) {
  if (in < wire::FileType::REGULAR || in > wire::FileType::BLOCK_DEVICE) refuse("a file type is unknown");
  out = static_cast<FileType>(in);
}

void read(wire::ChunkState in, ChunkState& out) {
  if (in < wire::ChunkState::OPEN || in > wire::ChunkState::SEALED) refuse("a chunk state is unknown");
  out = static_cast<ChunkState>(in);
}

void write(wire::Attributes::Builder out, const Attributes& in) {
  out.setInode(wire_of(in.inode));
  out.setType(wire_of(in.type));
  out.setMode(in.mode);
  out.setUid(in.uid);
  out.setGid(in.gid);
  out.setNlink(in.nlink);
  out.setRdev(in.rdev);
  out.setSize(in.size);
  out.setAllocatedBytes(in.allocated_bytes);
  out.setAtime(in.atime);
  out.setMtime(in.mtime);
  out.setCtime(in.ctime);
  out.setBtime(in.btime);
  out.setChange(in.change);
  out.setDataChange(in.data_change);
  out.setGoal(in.goal);
  out.setMinCopies(in.min_copies);
}

void read(wire::Attributes::Reader in, Attributes& out) {
  read(in.getInode(), out.inode);
  read(in.getType(), out.type);
  read(in.getMode(), out.mode);
  read(in.getUid(), out.uid);
  read(in.getGid(), out.gid);
  read(in.getNlink(), out.nlink);
  read(in.getRdev(), out.rdev);
  read(in.getSize(), out.size);
  read(in.getAllocatedBytes(), out.allocated_bytes);
  read(in.getAtime(), out.atime);
  read(in.getMtime(), out.mtime);
  read(in.getCtime(), out.ctime);
  read(in.getBtime(), out.btime);
  read(in.getChange(), out.change);
  read(in.getDataChange(), out.data_change);
  read(in.getGoal(), out.goal);
  read(in.getMinCopies(), out.min_copies);
}

void write(wire::Lease::Builder out, const Lease& in) {
  out.setDurationMs(in.duration_ms);
  out.setTerm(in.term);
  out.setSequence(in.sequence);
}

void read(wire::Lease::Reader in, Lease& out) {
  read(in.getDurationMs(), out.duration_ms);
  read(in.getTerm(), out.term);
  read(in.getSequence(), out.sequence);
}

void write(wire::ReplicaAddress::Builder out, const ReplicaAddress& in) {
  out.setServer(wire_of(in.server));
  out.setAddress(wire_of(in.address));
}

void read(wire::ReplicaAddress::Reader in, ReplicaAddress& out) {
  read(in.getServer(), out.server);
  read(in.getAddress(), out.address);
}

void write(wire::ReplicaStatus::Builder out, const ReplicaStatus& in) {
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setState(wire_of(in.state));
  out.setVerified(in.verified);
  out.setComplete(in.complete);
  out.setSequence(in.sequence);
  out.setSyncedSequence(in.synced_sequence);
  out.setLength(in.length);
  out.setAllocatedBytes(in.allocated_bytes);
  out.setInode(wire_of(in.inode));
  out.setIndex(in.index);
}

void read(wire::ReplicaStatus::Reader in, ReplicaStatus& out) {
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getState(), out.state);
  read(in.getVerified(), out.verified);
  read(in.getComplete(), out.complete);
  read(in.getSequence(), out.sequence);
  read(in.getSyncedSequence(), out.synced_sequence);
  read(in.getLength(), out.length);
  read(in.getAllocatedBytes(), out.allocated_bytes);
  read(in.getInode(), out.inode);
  read(in.getIndex(), out.index);
}

void write(wire::ChunkGrant::Builder out, const ChunkGrant& in) {
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  write(out.initReplicas(count(in.replicas)), in.replicas);
  out.setMinCopies(in.min_copies);
  out.setCapability(wire_of(in.capability));
}

void read(wire::ChunkGrant::Reader in, ChunkGrant& out) {
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getReplicas(), out.replicas, kMaxReplicaItems);
  read(in.getMinCopies(), out.min_copies);
  read(in.getCapability(), out.capability);
}

}  // namespace cairn
