#include "master/namespace/reply_codec.h"

#include "common/base/bytes.h"
#include "common/locks/inode_locks.h"
#include "master/namespace/attributes_codec.h"

namespace cairn {
namespace {

constexpr uint8_t kFormat = 1;
constexpr uint8_t kFormatWithConflict = 2;  // 1, and behind it the lock that is in the way

void write_optional(ByteWriter& w, const Attributes& a) {
  w.varint(a.inode.value);
  if (a.inode) write_attributes(w, a);
}
void read_optional(ByteReader& r, Attributes& a) {
  a.inode = InodeId{r.varint()};
  if (a.inode) read_attributes(r, a);
}

void write_grant(ByteWriter& w, const ChunkGrant& grant) {
  w.u64(grant.chunk.value);
  w.varint(grant.version);
  w.u8(grant.min_copies);
  w.varint(grant.replicas.size());
  for (const ReplicaAddress& replica : grant.replicas) {
    w.u64(replica.server.value);
    w.string(replica.address);
  }
}
ChunkGrant read_grant(ByteReader& r) {
  ChunkGrant grant;
  grant.chunk = ChunkId{r.u64()};
  grant.version = r.varint();
  grant.min_copies = r.u8();
  for (uint64_t left = r.varint(); left > 0 && r.ok(); --left) {
    ReplicaAddress replica;
    replica.server = ServerId{r.u64()};
    replica.address = r.string();
    grant.replicas.push_back(std::move(replica));
  }
  return grant;
}

}  // namespace

std::string encode_reply(const Result<MutationReply>& reply) {
  ByteWriter w(256 + (reply ? reply->grants.size() * 128 : 0));
  w.u8(reply && reply->conflict ? kFormatWithConflict : kFormat);
  if (!reply) {
    w.u16(static_cast<uint16_t>(reply.error().code));
    w.string(reply.error().context);
    return w.take();
  }
  w.u16(0);
  write_optional(w, reply->attributes);
  write_optional(w, reply->parent);
  write_optional(w, reply->new_parent);
  write_optional(w, reply->replaced);
  w.varint(reply->grants.size());
  for (const ChunkGrant& grant : reply->grants)
    write_grant(w, grant);
  if (reply->conflict) {
    InodeLocks locks;
    locks.add(*reply->conflict);
    w.string(encode(locks));
  }
  return w.take();
}

Result<Result<MutationReply>> decode_reply(std::string_view bytes) {
  ByteReader r(bytes);
  const uint8_t format = r.u8();
  if (format != kFormat && format != kFormatWithConflict)
    return Error(ErrorCode::kCorrupt, "stored reply: unknown format");
  if (const uint16_t code = r.u16(); code != 0) {
    Error error(error_code_from_wire(code), std::string(r.string()));
    if (Result<void> done = r.finish("stored reply"); !done) return done.error();
    return Result<Result<MutationReply>>(std::in_place, std::move(error));
  }
  MutationReply reply;
  read_optional(r, reply.attributes);
  read_optional(r, reply.parent);
  read_optional(r, reply.new_parent);
  read_optional(r, reply.replaced);
  for (uint64_t left = r.varint(); left > 0 && r.ok(); --left)
    reply.grants.push_back(read_grant(r));
  if (format == kFormatWithConflict) {
    InodeLocks locks;
    if (Result<void> read = decode(r.string(), locks); !read) return read.error();
    if (locks.empty()) return Error(ErrorCode::kCorrupt, "stored reply: no conflict");
    reply.conflict = locks.all().front();
  }
  if (Result<void> done = r.finish("stored reply"); !done) return done.error();
  return Result<Result<MutationReply>>(std::in_place, std::move(reply));
}

}  // namespace cairn
