#include "master/namespace/record_reader.h"

namespace cairn {

void RecordReader::fail(const Error& error) const {
  if (!failure_) failure_ = error;
}

std::optional<std::string> RecordReader::raw(std::string_view key) const {
  if (failure_) return std::nullopt;
  Result<std::optional<std::string>> loaded = load(key);
  if (!loaded) {
    fail(loaded.error());
    return std::nullopt;
  }
  return std::move(*loaded);
}

template <class Record>
std::optional<Record> RecordReader::find(std::string_view key) const {
  std::optional<std::string> bytes = raw(key);
  if (!bytes) return std::nullopt;
  std::optional<Record> record(std::in_place);
  if (Result<void> decoded = decode(*bytes, *record); !decoded) {
    fail(decoded.error());
    return std::nullopt;
  }
  return record;
}

void RecordReader::scan(std::string_view prefix, std::string_view from, const Visit& visit) const {
  if (failure_) return;
  if (Result<void> done = load_range(prefix, from, visit); !done) fail(done.error());
}

std::optional<InodeRecord> RecordReader::inode(InodeId id) const {
  std::optional<InodeRecord> record = find<InodeRecord>(keys::inode(id));
  if (record) record->attributes.inode = id;
  return record;
}
std::optional<DentryRecord> RecordReader::dentry(InodeId parent, std::string_view name) const {
  return find<DentryRecord>(keys::dentry(parent, name));
}
std::optional<CookieRecord> RecordReader::cookie(InodeId parent, uint64_t cookie) const {
  return find<CookieRecord>(keys::cookie(parent, cookie));
}
std::optional<ChunkRef> RecordReader::ref(InodeId inode, uint32_t index) const {
  return find<ChunkRef>(keys::ref(inode, index));
}
std::optional<std::string> RecordReader::xattr(InodeId inode, std::string_view name) const {
  return raw(keys::xattr(inode, name));
}
std::optional<ChunkRecord> RecordReader::chunk(ChunkId id) const {
  return find<ChunkRecord>(keys::chunk(id));
}
std::optional<SessionRecord> RecordReader::session(SessionId id) const {
  return find<SessionRecord>(keys::session(id));
}
std::optional<ServerRecord> RecordReader::server(ServerId id) const {
  return find<ServerRecord>(keys::server(id));
}
std::optional<OrphanRecord> RecordReader::orphan(InodeId id) const {
  return find<OrphanRecord>(keys::orphan(id));
}
std::optional<GarbageRecord> RecordReader::garbage(ServerId server, ChunkId chunk) const {
  return find<GarbageRecord>(keys::garbage(server, chunk));
}
std::optional<ClusterRecord> RecordReader::cluster() const {
  return find<ClusterRecord>(keys::cluster());
}

bool alive(const InodeRecord& inode, uint32_t index, const ChunkRef& ref) {
  for (const CutRecord& cut : inode.cuts) {
    if (index >= cut.first_index && ref.epoch < cut.epoch) return false;
  }
  return true;
}

}  // namespace cairn
