#include "master/namespace/records.h"

#include "common/base/bytes.h"
#include "master/namespace/attributes_codec.h"

namespace cairn {
namespace {

constexpr uint8_t kFormat = 1;

uint32_t read_u32(ByteReader& r) {
  return static_cast<uint32_t>(r.varint());
}

// A count of things that each take at least one byte: what cannot fit is refused before it is allocated.
size_t read_count(ByteReader& r) {
  const uint64_t count = r.varint();
  if (count <= r.remaining()) return static_cast<size_t>(count);
  r.bytes(r.remaining() + 1);  // fails the reader
  return 0;
}

template <class Id>
void write_ids(ByteWriter& w, const std::vector<Id>& ids) {
  w.varint(ids.size());
  for (Id id : ids)
    w.u64(id.value);
}
template <class Id>
void read_ids(ByteReader& r, std::vector<Id>& ids) {
  ids.clear();
  for (size_t left = read_count(r); left > 0; --left)
    ids.push_back(Id{r.u64()});
}

// Runs `body` on what follows the format byte.
template <class Body>
Result<void> decode_body(std::string_view bytes, const char* what, Body body) {
  ByteReader r(bytes);
  if (r.u8() != kFormat) return Error(ErrorCode::kCorrupt, std::string(what) + ": unknown format");
  body(r);
  return r.finish(what);
}

}  // namespace

void write_attributes(ByteWriter& w, const Attributes& a) {
  w.u8(static_cast<uint8_t>(a.type));
  w.varint(a.mode);
  w.varint(a.uid);
  w.varint(a.gid);
  w.varint(a.nlink);
  w.varint(a.rdev);
  w.varint(a.size);
  w.varint(a.allocated_bytes);
  w.i64(a.atime);
  w.i64(a.mtime);
  w.i64(a.ctime);
  w.i64(a.btime);
  w.varint(a.change);
  w.varint(a.data_change);
  w.u8(a.goal);
  w.u8(a.min_copies);
}

void read_attributes(ByteReader& r, Attributes& a) {
  a.type = static_cast<FileType>(r.u8());
  a.mode = read_u32(r);
  a.uid = read_u32(r);
  a.gid = read_u32(r);
  a.nlink = read_u32(r);
  a.rdev = read_u32(r);
  a.size = r.varint();
  a.allocated_bytes = r.varint();
  a.atime = r.i64();
  a.mtime = r.i64();
  a.ctime = r.i64();
  a.btime = r.i64();
  a.change = r.varint();
  a.data_change = r.varint();
  a.goal = r.u8();
  a.min_copies = r.u8();
}

const ReplicaRecord* ChunkRecord::replica_on(ServerId server) const {
  for (const ReplicaRecord& replica : replicas) {
    if (replica.server == server) return &replica;
  }
  return nullptr;
}

uint32_t ChunkRecord::current_copies() const {
  uint32_t copies = 0;
  for (const ReplicaRecord& replica : replicas)
    copies += replica.state == ReplicaState::kCurrent;
  return copies;
}

std::string encode(const InodeRecord& in) {
  ByteWriter w(128 + in.symlink_target.size());
  w.u8(kFormat);
  write_attributes(w, in.attributes);
  w.varint(in.parent.value);
  w.varint(in.next_cookie);
  w.varint(in.chunk_count);
  w.varint(in.xattr_count);
  w.varint(in.xattr_bytes);
  w.varint(in.xattr_name_bytes);
  w.varint(in.epoch);
  w.varint(in.cuts.size());
  for (const CutRecord& cut : in.cuts) {
    w.varint(cut.first_index);
    w.varint(cut.epoch);
  }
  w.string(in.symlink_target);
  return w.take();
}

Result<void> decode(std::string_view bytes, InodeRecord& out) {
  return decode_body(bytes, "inode record", [&](ByteReader& r) {
    read_attributes(r, out.attributes);
    out.parent = InodeId{r.varint()};
    out.next_cookie = r.varint();
    out.chunk_count = read_u32(r);
    out.xattr_count = read_u32(r);
    out.xattr_bytes = read_u32(r);
    out.xattr_name_bytes = read_u32(r);
    out.epoch = read_u32(r);
    out.cuts.clear();
    for (size_t left = read_count(r); left > 0; --left) {
      CutRecord cut;
      cut.first_index = read_u32(r);
      cut.epoch = read_u32(r);
      out.cuts.push_back(cut);
    }
    out.symlink_target = r.string();
  });
}

std::string encode(const DentryRecord& in) {
  ByteWriter w(16);
  w.u8(kFormat);
  w.varint(in.inode.value);
  w.u8(static_cast<uint8_t>(in.type));
  w.varint(in.cookie);
  return w.take();
}

Result<void> decode(std::string_view bytes, DentryRecord& out) {
  return decode_body(bytes, "dentry record", [&](ByteReader& r) {
    out.inode = InodeId{r.varint()};
    out.type = static_cast<FileType>(r.u8());
    out.cookie = r.varint();
  });
}

std::string encode(const CookieRecord& in) {
  ByteWriter w(24 + in.name.size());
  w.u8(kFormat);
  w.varint(in.inode.value);
  w.u8(static_cast<uint8_t>(in.type));
  w.string(in.name);
  return w.take();
}

Result<void> decode(std::string_view bytes, CookieRecord& out) {
  return decode_body(bytes, "cookie record", [&](ByteReader& r) {
    out.inode = InodeId{r.varint()};
    out.type = static_cast<FileType>(r.u8());
    out.name = r.string();
  });
}

std::string encode(const ChunkRef& in) {
  ByteWriter w(24);
  w.u8(kFormat);
  w.u64(in.chunk.value);
  w.u32(in.limit);
  w.varint(in.allocated_bytes);
  w.varint(in.epoch);
  return w.take();
}

Result<void> decode(std::string_view bytes, ChunkRef& out) {
  return decode_body(bytes, "chunk ref", [&](ByteReader& r) {
    out.chunk = ChunkId{r.u64()};
    out.limit = r.u32();
    out.allocated_bytes = read_u32(r);
    out.epoch = read_u32(r);
  });
}

std::string encode(const ChunkRecord& in) {
  ByteWriter w(128);
  w.u8(kFormat);
  w.u8(static_cast<uint8_t>(in.kind));
  w.u8(static_cast<uint8_t>(in.state));
  w.varint(in.version);
  w.varint(in.highest_version);
  w.varint(in.session.value);
  w.varint(in.refs);
  w.u8(in.goal);
  w.u8(in.min_copies);
  w.varint(in.length);
  w.varint(in.allocated_bytes);
  w.varint(in.owner.value);
  w.varint(in.index);
  w.varint(in.replicas.size());
  for (const ReplicaRecord& replica : in.replicas) {
    w.u64(replica.server.value);
    w.u8(static_cast<uint8_t>(replica.state));
    w.varint(replica.boots);
  }
  w.u8(in.pending.has_value());
  if (in.pending) {
    w.varint(in.pending->version);
    w.varint(in.pending->session.value);
    write_ids(w, in.pending->survivors);
    write_ids(w, in.pending->joiners);
  }
  return w.take();
}

Result<void> decode(std::string_view bytes, ChunkRecord& out) {
  return decode_body(bytes, "chunk record", [&](ByteReader& r) {
    out.kind = static_cast<ChunkKind>(r.u8());
    out.state = static_cast<ChunkState>(r.u8());
    out.version = r.varint();
    out.highest_version = r.varint();
    out.session = SessionId{r.varint()};
    out.refs = read_u32(r);
    out.goal = r.u8();
    out.min_copies = r.u8();
    out.length = read_u32(r);
    out.allocated_bytes = read_u32(r);
    out.owner = InodeId{r.varint()};
    out.index = read_u32(r);
    out.replicas.clear();
    for (size_t left = read_count(r); left > 0; --left) {
      ReplicaRecord replica;
      replica.server = ServerId{r.u64()};
      replica.state = static_cast<ReplicaState>(r.u8());
      replica.boots = read_u32(r);
      out.replicas.push_back(replica);
    }
    out.pending.reset();
    if (r.u8() == 0) return;
    PendingRaise& pending = out.pending.emplace();
    pending.version = r.varint();
    pending.session = SessionId{r.varint()};
    read_ids(r, pending.survivors);
    read_ids(r, pending.joiners);
  });
}

std::string encode(const SessionRecord& in) {
  ByteWriter w(96);
  w.u8(kFormat);
  w.string(in.host);
  w.string(in.mountpoint);
  w.string(in.program);
  w.varint(in.opened_ms);
  w.varint(in.renewed_ms);
  w.varint(in.first_unacknowledged);
  w.varint(in.highest_sequence);
  w.u8(in.ended);
  w.u8(in.cleaned);
  return w.take();
}

Result<void> decode(std::string_view bytes, SessionRecord& out) {
  return decode_body(bytes, "session record", [&](ByteReader& r) {
    out.host = r.string();
    out.mountpoint = r.string();
    out.program = r.string();
    out.opened_ms = r.varint();
    out.renewed_ms = r.varint();
    out.first_unacknowledged = r.varint();
    out.highest_sequence = r.varint();
    out.ended = r.u8() != 0;
    out.cleaned = r.u8() != 0;
  });
}

std::string encode(const ServerRecord& in) {
  ByteWriter w;
  w.u8(kFormat);
  w.string(in.address);
  w.string(in.domain);
  w.string(in.program);
  w.string(in.boot_id);
  w.u64(in.incarnation);
  w.varint(in.boots);
  w.varint(in.registered_ms);
  return w.take();
}

Result<void> decode(std::string_view bytes, ServerRecord& out) {
  return decode_body(bytes, "server record", [&](ByteReader& r) {
    out.address = r.string();
    out.domain = r.string();
    out.program = r.string();
    out.boot_id = r.string();
    out.incarnation = r.u64();
    out.boots = read_u32(r);
    out.registered_ms = r.varint();
  });
}

std::string encode(const GarbageRecord& in) {
  ByteWriter w;
  w.u8(kFormat);
  w.varint(in.version);
  w.varint(in.due_ms);
  return w.take();
}

Result<void> decode(std::string_view bytes, GarbageRecord& out) {
  return decode_body(bytes, "garbage record", [&](ByteReader& r) {
    out.version = r.varint();
    out.due_ms = r.varint();
  });
}

std::string encode(const OrphanRecord& in) {
  ByteWriter w;
  w.u8(kFormat);
  write_ids(w, in.holders);
  return w.take();
}

Result<void> decode(std::string_view bytes, OrphanRecord& out) {
  return decode_body(bytes, "orphan record", [&](ByteReader& r) { read_ids(r, out.holders); });
}

std::string encode(const WorkRecord& in) {
  ByteWriter w;
  w.u8(kFormat);
  w.u8(static_cast<uint8_t>(in.kind));
  w.varint(in.inode.value);
  w.varint(in.session.value);
  w.varint(in.server.value);
  w.varint(in.next);
  w.varint(in.cut.first_index);
  w.varint(in.cut.epoch);
  return w.take();
}

Result<void> decode(std::string_view bytes, WorkRecord& out) {
  return decode_body(bytes, "work record", [&](ByteReader& r) {
    out.kind = static_cast<WorkRecord::Kind>(r.u8());
    out.inode = InodeId{r.varint()};
    out.session = SessionId{r.varint()};
    out.server = ServerId{r.varint()};
    out.next = r.varint();
    out.cut.first_index = read_u32(r);
    out.cut.epoch = read_u32(r);
  });
}

std::string encode(const ClusterRecord& in) {
  ByteWriter w;
  w.u8(kFormat);
  w.u64(in.cluster.value);
  w.varint(in.expected_servers);
  w.u8(in.default_goal);
  w.u8(in.default_min_copies);
  w.varint(in.session_ms);
  w.varint(in.delete_grace_ms);
  w.varint(in.keys.size());
  for (const CapabilityKey& key : in.keys) {
    w.varint(key.id);
    w.string(key.key);
  }
  if (in.version_floor == 0) return w.take();  // as it was before there were restores
  w.varint(in.version_floor);
  w.u8(in.restore.has_value());
  if (!in.restore) return w.take();
  w.u8(static_cast<uint8_t>(in.restore->source));
  w.i64(in.restore->taken_ns);
  w.varint(in.restore->session.value);
  w.u8(in.restore->settled);
  return w.take();
}

Result<void> decode(std::string_view bytes, ClusterRecord& out) {
  return decode_body(bytes, "cluster record", [&](ByteReader& r) {
    out.cluster = ClusterId{r.u64()};
    out.expected_servers = read_u32(r);
    out.default_goal = r.u8();
    out.default_min_copies = r.u8();
    out.session_ms = read_u32(r);
    out.delete_grace_ms = read_u32(r);
    out.keys.clear();
    for (size_t left = read_count(r); left > 0; --left) {
      CapabilityKey key;
      key.id = read_u32(r);
      key.key = r.string();
      out.keys.push_back(std::move(key));
    }
    out.version_floor = 0;
    out.restore.reset();
    if (r.at_end()) return;
    out.version_floor = r.varint();
    if (r.u8() == 0) return;
    RestoreRecord& restore = out.restore.emplace();
    restore.source = static_cast<RestoreSource>(r.u8());
    restore.taken_ns = r.i64();
    restore.session = SessionId{r.varint()};
    restore.settled = r.u8() != 0;
  });
}

namespace {
// The counters in the order in which they are written: one list for both directions.
template <class Counters, class Visit>
void for_each_counter(Counters& c, Visit visit) {
  visit(c.applied_index);
  visit(c.applied_term);
  visit(c.log_time_ms);
  visit(c.term_began_ms);
  visit(c.next_inode);
  visit(c.next_chunk);
  visit(c.next_session);
  visit(c.next_work);
  visit(c.inodes);
  visit(c.orphans);
  visit(c.sessions);
  visit(c.servers);
  visit(c.work);
  visit(c.allocated_bytes);
  visit(c.chunks);
  visit(c.healthy);
  visit(c.under_goal);
  visit(c.one_copy);
  visit(c.lost);
  visit(c.over_goal);
  visit(c.open);
  visit(c.granted);
  visit(c.garbage);
}
}  // namespace

std::string encode(const CounterRecord& in) {
  ByteWriter w(96);
  w.u8(kFormat);
  for_each_counter(in, [&](uint64_t v) { w.varint(v); });
  return w.take();
}

Result<void> decode(std::string_view bytes, CounterRecord& out) {
  return decode_body(bytes, "counter record",
                     [&](ByteReader& r) { for_each_counter(out, [&](uint64_t& v) { v = r.varint(); }); });
}

}  // namespace cairn
