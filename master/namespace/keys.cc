#include "master/namespace/keys.h"

#include "common/base/check.h"

namespace cairn::keys {
namespace {

// Built in place: keys are made several times for each command.
class KeyBuilder {
 public:
  KeyBuilder(Kind kind, size_t size) {
    key_.reserve(size);
    key_.push_back(static_cast<char>(kind));
  }
  KeyBuilder& u64(uint64_t v) { return big_endian(v, 8); }
  KeyBuilder& u32(uint32_t v) { return big_endian(v, 4); }
  KeyBuilder& name(std::string_view v) {
    key_.append(v);
    key_.push_back('\0');  // no name has one: "a" sorts before "ab" whatever the epoch
    return *this;
  }
  std::string take() { return std::move(key_); }

 private:
  KeyBuilder& big_endian(uint64_t v, int bytes) {
    for (int i = bytes - 1; i >= 0; --i)
      key_.push_back(static_cast<char>(v >> (8 * i)));
    return *this;
  }
  std::string key_;
};

uint64_t read_big_endian(std::string_view key, size_t offset, size_t bytes) {
  CHECK(key.size() >= offset + bytes);
  uint64_t v = 0;
  for (size_t i = 0; i < bytes; ++i)
    v = v << 8 | static_cast<unsigned char>(key[offset + i]);
  return v;
}

std::string pair(Kind kind, uint64_t a, uint64_t b) {
  return KeyBuilder(kind, 17).u64(a).u64(b).take();
}
std::string single(Kind kind, uint64_t a) {
  return KeyBuilder(kind, 9).u64(a).take();
}

}  // namespace

std::string cluster() {
  return prefix(Kind::kCluster);
}
std::string counters() {
  return prefix(Kind::kCounters);
}
std::string inode(InodeId inode) {
  return pair(Kind::kInode, inode.value, kHeadEpoch);
}
std::string dentry(InodeId parent, std::string_view name) {
  return KeyBuilder(Kind::kDentry, 18 + name.size()).u64(parent.value).name(name).u64(kHeadEpoch).take();
}
std::string cookie(InodeId parent, uint64_t cookie) {
  return KeyBuilder(Kind::kCookie, 25).u64(parent.value).u64(cookie).u64(kHeadEpoch).take();
}
std::string cookie_start(InodeId parent, uint64_t cookie) {
  return pair(Kind::kCookie, parent.value, cookie);
}
std::string ref(InodeId inode, uint32_t index) {
  return KeyBuilder(Kind::kRef, 21).u64(inode.value).u32(index).u64(kHeadEpoch).take();
}
std::string xattr(InodeId inode, std::string_view name) {
  return KeyBuilder(Kind::kXattr, 18 + name.size()).u64(inode.value).name(name).u64(kHeadEpoch).take();
}
std::string chunk(ChunkId chunk) {
  return single(Kind::kChunk, chunk.value);
}
std::string server_chunk(ServerId server, ChunkId chunk) {
  return pair(Kind::kServerChunk, server.value, chunk.value);
}
std::string attention(ChunkId chunk) {
  return single(Kind::kAttention, chunk.value);
}
std::string open_chunk(SessionId session, ChunkId chunk) {
  return pair(Kind::kOpenChunk, session.value, chunk.value);
}
std::string session(SessionId session) {
  return single(Kind::kSession, session.value);
}
std::string reply(SessionId session, uint64_t sequence) {
  return pair(Kind::kReply, session.value, sequence);
}
std::string orphan(InodeId inode) {
  return single(Kind::kOrphan, inode.value);
}
std::string session_orphan(SessionId session, InodeId inode) {
  return pair(Kind::kSessionOrphan, session.value, inode.value);
}
std::string server(ServerId server) {
  return single(Kind::kServer, server.value);
}
std::string garbage(ServerId server, ChunkId chunk) {
  return pair(Kind::kGarbage, server.value, chunk.value);
}
std::string garbage_due(ServerId server, uint64_t due_ms, ChunkId chunk) {
  return KeyBuilder(Kind::kGarbageDue, 25).u64(server.value).u64(due_ms).u64(chunk.value).take();
}
std::string work(uint64_t number) {
  return single(Kind::kWork, number);
}

std::string locks(InodeId inode) {
  return single(Kind::kLocks, inode.value);
}
std::string session_locks(SessionId session, InodeId inode) {
  return pair(Kind::kSessionLocks, session.value, inode.value);
}

std::string prefix(Kind kind) {
  return std::string(1, static_cast<char>(kind));
}
std::string prefix(Kind kind, uint64_t first_id) {
  return single(kind, first_id);
}

uint64_t first_id(std::string_view key) {
  return read_big_endian(key, 1, 8);
}
uint64_t second_id(std::string_view key) {
  return read_big_endian(key, 9, 8);
}
uint64_t third_id(std::string_view key) {
  return read_big_endian(key, 17, 8);
}
uint32_t ref_index(std::string_view key) {
  return static_cast<uint32_t>(read_big_endian(key, 9, 4));
}
std::string_view name_of(std::string_view key) {
  CHECK(key.size() >= 18);
  return key.substr(9, key.size() - 18);
}

bool is_looked_up(std::string_view key) {
  switch (static_cast<Kind>(key.front())) {
    case Kind::kCluster:
    case Kind::kCounters:
    case Kind::kServerChunk:
    case Kind::kAttention:
    case Kind::kOpenChunk:
    case Kind::kSession:
    case Kind::kReply:
    case Kind::kSessionOrphan:
    case Kind::kServer:
    case Kind::kGarbageDue:
    case Kind::kLocks:
    case Kind::kSessionLocks:
      return false;
    default:
      return true;
  }
}

}  // namespace cairn::keys
