// Machine's reads.
#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/units.h"
#include "master/namespace/machine_impl.h"
#include "master/namespace/reply_codec.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

// Point reads are as cheap as a scan up to about here, and they can be answered from memory.
constexpr uint32_t kPointReadsMax = 128;
constexpr uint32_t kDirectoryEntriesMax = 4096;

// The list that an index's keys (prefix, chunk) stand for.
Result<std::vector<ChunkEntry>> chunks_of_index(const StateReader& reader, const std::string& prefix, ChunkId after,
                                                uint32_t max) {
  std::vector<ChunkEntry> found;
  if (max == 0 || after.value == UINT64_MAX) return found;
  ByteWriter from;
  from.bytes(prefix);
  from.key_u64(after.value + 1);
  reader.scan(prefix, from.str(), [&](std::string_view key, std::string_view) {
    const ChunkId id{prefix.size() == 1 ? keys::first_id(key) : keys::second_id(key)};
    if (std::optional<ChunkRecord> chunk = reader.chunk(id)) found.push_back({id, std::move(*chunk)});
    return found.size() < max && !reader.failed();
  });
  if (reader.failed()) return reader.failure();
  return found;
}

void add_file_chunk(const RecordReader& reader, const InodeRecord& inode, uint32_t index, const ChunkRef& ref,
                    std::vector<FileChunk>& chunks) {
  if (!alive(inode, index, ref)) return;
  if (std::optional<ChunkRecord> chunk = reader.chunk(ref.chunk)) {
    chunks.push_back({index, ref.chunk, ref.limit, std::move(*chunk)});
  }
}

// What `answer` says, unless something could not be read on the way.
template <class T>
Result<T> checked(const RecordReader& reader, Result<T> answer) {
  if (reader.failed()) return reader.failure();
  return answer;
}

bool named(const ChunkRecord& chunk, ServerId server) {
  if (chunk.replica_on(server) != nullptr) return true;
  if (!chunk.pending) return false;
  const std::vector<ServerId>& joiners = chunk.pending->joiners;
  return std::find(joiners.begin(), joiners.end(), server) != joiners.end();
}

}  // namespace

uint64_t Machine::applied_index() const {
  return counters().applied_index;
}
uint64_t Machine::applied_term() const {
  return counters().applied_term;
}
uint64_t Machine::log_time_ms() const {
  return counters().log_time_ms;
}
bool Machine::work_pending() const {
  return counters().work > 0;
}

bool Machine::wants_ticks() const {
  std::shared_lock lock(impl_->memory_lock);
  const Transaction::Tables& tables = impl_->tables;
  return !tables.sessions.empty() || tables.counters.work > 0 || tables.counters.garbage > 0;
}

CounterRecord Machine::counters() const {
  std::shared_lock lock(impl_->memory_lock);
  return impl_->tables.counters;
}

bool Machine::has_cluster() const {
  std::shared_lock lock(impl_->memory_lock);
  return impl_->tables.cluster.has_value();
}

ClusterRecord Machine::cluster() const {
  std::shared_lock lock(impl_->memory_lock);
  return impl_->tables.cluster.value_or(ClusterRecord{});
}

std::optional<RestoreRecord> Machine::restore() const {
  std::shared_lock lock(impl_->memory_lock);
  return impl_->tables.cluster ? impl_->tables.cluster->restore : std::nullopt;
}

Result<EntryReply> Machine::lookup(InodeId parent, std::string_view name, ReadMode mode) const {
  if (name.size() > kMaxNameBytes) return ErrorCode::kNameTooLong;
  const StateReader reader = impl_->reader(mode);
  Result<InodeRecord> directory = checked(reader, find_directory(reader, parent));
  if (!directory) return directory.error();
  EntryReply reply;
  reply.parent = directory->attributes;
  InodeId child;
  if (name == ".") {
    child = parent;
  } else if (name == "..") {
    child = directory->parent;
  } else if (std::optional<DentryRecord> entry = find_entry(reader, *directory, name)) {
    child = entry->inode;
  }
  if (child) {
    Result<InodeRecord> inode = find_inode(reader, child);
    if (inode) {
      reply.attributes = inode->attributes;
      reply.symlink_target = std::move(inode->symlink_target);
    }
  }
  return checked<EntryReply>(reader, std::move(reply));
}

Result<InodeRecord> Machine::inode(InodeId inode, ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  return checked(reader, find_inode(reader, inode));
}

Result<Attributes> Machine::get_attributes(InodeId id, ReadMode mode) const {
  Result<InodeRecord> found = inode(id, mode);
  if (!found) return found.error();
  return found->attributes;
}

namespace {

// Entries with a cookie above `cookie`, in order, at most `max`.
std::vector<DirectoryEntry> entries_after(const RecordReader& reader, const InodeRecord& directory, uint64_t cookie,
                                          uint32_t max) {
  std::vector<DirectoryEntry> entries;
  const InodeId id = directory.attributes.inode;
  const uint64_t first = std::max<uint64_t>(cookie + 1, 3);
  if (directory.attributes.size == 0 || cookie >= directory.next_cookie) return entries;
  if (directory.next_cookie - first <= kPointReadsMax) {
    for (uint64_t at = first; at < directory.next_cookie && entries.size() < max; ++at) {
      std::optional<CookieRecord> entry = reader.cookie(id, at);
      if (entry)
        entries.push_back({.name = std::move(entry->name), .inode = entry->inode, .type = entry->type, .cookie = at});
    }
    return entries;
  }
  reader.scan(
      keys::prefix(keys::Kind::kCookie, id.value), keys::cookie_start(id, first),
      [&](std::string_view key, std::string_view value) {
        CookieRecord entry;
        if (!decode(value, entry)) return false;
        entries.push_back(
            {.name = std::move(entry.name), .inode = entry.inode, .type = entry.type, .cookie = keys::second_id(key)});
        return entries.size() < max;
      });
  return entries;
}

}  // namespace

Result<ReadDirectoryReply> Machine::read_directory(InodeId directory, uint64_t cookie, uint32_t count_max, bool plus,
                                                   ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  Result<InodeRecord> inode = checked(reader, find_directory(reader, directory));
  if (!inode) return inode.error();
  const uint32_t max = std::min(count_max, kDirectoryEntriesMax);
  ReadDirectoryReply reply;
  // One more than asked for, to know whether that is the end.
  reply.entries = entries_after(reader, *inode, cookie, max + 1);
  reply.end = reply.entries.size() <= max;
  if (!reply.end) reply.entries.pop_back();
  if (plus) {
    for (DirectoryEntry& entry : reply.entries) {
      if (std::optional<InodeRecord> child = reader.inode(entry.inode)) entry.attributes = child->attributes;
    }
  }
  reply.parent = inode->parent;
  reply.directory = inode->attributes;
  return checked<ReadDirectoryReply>(reader, std::move(reply));
}

Result<std::string> Machine::read_link(InodeId id, ReadMode mode) const {
  Result<InodeRecord> found = inode(id, mode);
  if (!found) return found.error();
  if (found->attributes.type != FileType::kSymlink) return ErrorCode::kInvalid;
  return std::move(found->symlink_target);
}

Result<std::string> Machine::get_xattr(InodeId id, std::string_view name, ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  Result<InodeRecord> inode = checked(reader, find_inode(reader, id));
  if (!inode) return inode.error();
  if (inode->xattr_count == 0 || name.empty()) return ErrorCode::kNoData;
  std::optional<std::string> value = reader.xattr(id, name);
  if (!value) return checked<std::string>(reader, ErrorCode::kNoData);
  return std::move(*value);
}

Result<std::vector<std::string>> Machine::list_xattr(InodeId id, ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  Result<InodeRecord> inode = checked(reader, find_inode(reader, id));
  if (!inode) return inode.error();
  std::vector<std::string> names;
  if (inode->xattr_count == 0) return names;
  const std::string prefix = keys::prefix(keys::Kind::kXattr, id.value);
  reader.scan(prefix, prefix, [&](std::string_view key, std::string_view) {
    names.emplace_back(keys::name_of(key));
    return true;
  });
  return checked<std::vector<std::string>>(reader, std::move(names));
}

Result<std::vector<SessionId>> Machine::orphan_holders(InodeId inode, ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  std::optional<OrphanRecord> orphan = reader.orphan(inode);
  return checked<std::vector<SessionId>>(reader, orphan ? std::move(orphan->holders) : std::vector<SessionId>());
}

Result<std::vector<InodeId>> Machine::created(SessionId session, std::span<const uint64_t> sequences,
                                              ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  std::vector<InodeId> found;
  for (uint64_t sequence : sequences) {
    std::optional<std::string> bytes = reader.raw(keys::reply(session, sequence));
    if (!bytes) continue;
    Result<Result<MutationReply>> reply = decode_reply(*bytes);
    if (!reply) return reply.error();
    if (!*reply) continue;
    // Nothing but a creation leaves a file with a parent, one name, and no change since its birth.
    const Attributes& made = (*reply)->attributes;
    bool file = made.inode && made.type == FileType::kRegular && made.nlink == 1 && made.ctime == made.btime;
    if (file && (*reply)->parent.inode) found.push_back(made.inode);
  }
  return checked<std::vector<InodeId>>(reader, std::move(found));
}

Result<std::vector<FileChunk>> Machine::layout(InodeId id, uint32_t first, uint32_t count, ReadMode mode,
                                               size_t max) const {
  const StateReader reader = impl_->reader(mode);
  Result<InodeRecord> inode = checked(reader, find_inode(reader, id));
  if (!inode) return inode.error();
  std::vector<FileChunk> chunks;
  const uint64_t in_file = (inode->attributes.size + kChunkSizeBytes - 1) / kChunkSizeBytes;
  const uint64_t end = std::min(in_file, uint64_t{first} + count);
  if (inode->chunk_count == 0 || first >= end) return chunks;
  if (end - first <= kPointReadsMax) {
    for (uint32_t index = first; index < end; ++index) {
      if (std::optional<ChunkRef> ref = reader.ref(id, index)) add_file_chunk(reader, *inode, index, *ref, chunks);
    }
  } else {
    reader.scan(keys::prefix(keys::Kind::kRef, id.value), keys::ref(id, first),
                [&](std::string_view key, std::string_view value) {
                  const uint32_t index = keys::ref_index(key);
                  ChunkRef ref;
                  if (index >= end || !decode(value, ref)) return false;
                  add_file_chunk(reader, *inode, index, ref, chunks);
                  return chunks.size() < max;
                });
  }
  return checked<std::vector<FileChunk>>(reader, std::move(chunks));
}

Result<ChunkRecord> Machine::chunk(ChunkId id, ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  std::optional<ChunkRecord> chunk = reader.chunk(id);
  if (!chunk) return checked<ChunkRecord>(reader, Error(ErrorCode::kNotFound, "chunk " + to_string(id)));
  return std::move(*chunk);
}

Result<std::vector<ChunkEntry>> Machine::chunks(ChunkId after, uint32_t max) const {
  return chunks_of_index(impl_->reader(ReadMode::kMayBlock), keys::prefix(keys::Kind::kChunk), after, max);
}

Result<std::vector<ChunkEntry>> Machine::chunks_on(ServerId server, ChunkId after, uint32_t max) const {
  return chunks_of_index(impl_->reader(ReadMode::kMayBlock), keys::prefix(keys::Kind::kServerChunk, server.value),
                         after, max);
}

Result<std::vector<ChunkEntry>> Machine::chunks_to_repair(ChunkId after, uint32_t max) const {
  return chunks_of_index(impl_->reader(ReadMode::kMayBlock), keys::prefix(keys::Kind::kAttention), after, max);
}

Result<std::vector<ChunkEntry>> Machine::open_chunks(SessionId session, ChunkId after, uint32_t max) const {
  return chunks_of_index(impl_->reader(ReadMode::kMayBlock), keys::prefix(keys::Kind::kOpenChunk, session.value), after,
                         max);
}

Result<std::vector<ChunkEntry>> Machine::chunks_to_recover(uint32_t max) const {
  const StateReader reader = impl_->reader(ReadMode::kMayBlock);
  std::vector<SessionId> ended;
  {
    std::shared_lock lock(impl_->memory_lock);
    for (const auto& [id, session] : impl_->tables.sessions) {
      if (session.ended) ended.push_back(id);
    }
  }
  std::vector<ChunkEntry> found;
  for (SessionId session : ended) {
    const std::string prefix = keys::prefix(keys::Kind::kOpenChunk, session.value);
    reader.scan(prefix, prefix, [&](std::string_view key, std::string_view) {
      const ChunkId id{keys::second_id(key)};
      std::optional<ChunkRecord> chunk = reader.chunk(id);
      if (chunk && chunk->refs > 0 && found.size() < max) found.push_back({id, std::move(*chunk)});
      return found.size() < max;
    });
  }
  return checked<std::vector<ChunkEntry>>(reader, std::move(found));
}

Result<std::vector<GarbageEntry>> Machine::due_garbage(ServerId server, uint64_t now_ms, uint32_t max) const {
  const StateReader reader = impl_->reader(ReadMode::kMayBlock);
  std::vector<GarbageEntry> due;
  const std::string prefix = keys::prefix(keys::Kind::kGarbageDue, server.value);
  reader.scan(prefix, prefix, [&](std::string_view key, std::string_view) {
    if (due.size() >= max || keys::second_id(key) > now_ms) return false;
    const ChunkId id{keys::third_id(key)};
    std::optional<ChunkRecord> chunk = reader.chunk(id);
    const bool kept = chunk && (named(*chunk, server) || chunk->pending || chunk->current_copies() < chunk->min_copies);
    std::optional<GarbageRecord> garbage = reader.garbage(server, id);
    if (garbage && !kept) due.push_back({id, garbage->version, garbage->due_ms});
    return true;
  });
  return checked<std::vector<GarbageEntry>>(reader, std::move(due));
}

Result<SessionRecord> Machine::session(SessionId session) const {
  std::shared_lock lock(impl_->memory_lock);
  auto found = impl_->tables.sessions.find(session);
  if (found == impl_->tables.sessions.end() || found->second.ended)
    return Error(ErrorCode::kSessionEnded, to_string(session));
  return found->second;
}

InodeLocks Machine::locks(InodeId inode) const {
  std::shared_lock lock(impl_->memory_lock);
  auto found = impl_->tables.locks.find(inode);
  if (found == impl_->tables.locks.end()) return {};
  InodeLocks living;
  for (const FileLock& held : found->second.all()) {
    auto session = impl_->tables.sessions.find(held.session);
    if (session != impl_->tables.sessions.end() && !session->second.ended) living.add(held);
  }
  return living;
}

std::vector<InodeId> Machine::locked_inodes(InodeId after, size_t max) const {
  std::shared_lock lock(impl_->memory_lock);
  std::vector<InodeId> inodes;
  for (auto it = impl_->tables.locks.upper_bound(after); it != impl_->tables.locks.end() && inodes.size() < max; ++it)
    inodes.push_back(it->first);
  return inodes;
}

std::vector<SessionEntry> Machine::sessions() const {
  std::shared_lock lock(impl_->memory_lock);
  std::vector<SessionEntry> all;
  for (const auto& [id, session] : impl_->tables.sessions)
    all.push_back({id, session});
  return all;
}

Result<ServerRecord> Machine::server(ServerId server) const {
  std::shared_lock lock(impl_->memory_lock);
  auto found = impl_->tables.servers.find(server);
  if (found == impl_->tables.servers.end()) return Error(ErrorCode::kNotFound, "server " + to_string(server));
  return found->second;
}

std::vector<ServerEntry> Machine::servers() const {
  std::shared_lock lock(impl_->memory_lock);
  std::vector<ServerEntry> all;
  for (const auto& [id, server] : impl_->tables.servers)
    all.push_back({id, server});
  return all;
}

std::unique_ptr<KvIterator> Machine::records() const {
  std::shared_lock lock(impl_->store_lock);  // between an entry's becoming visible and the store's having it
  return impl_->store.iterate();
}

Result<uint64_t> Machine::state_hash() const {
  const StateReader reader = impl_->reader(ReadMode::kMayBlock);
  uint64_t hash = 0xCBF29CE484222325ull;  // FNV-1a
  auto add = [&hash](std::string_view bytes) {
    for (unsigned char c : bytes)
      hash = (hash ^ c) * 0x100000001B3ull;
  };
  reader.scan({}, {}, [&](std::string_view key, std::string_view value) {
    ByteWriter sizes;
    sizes.u32(static_cast<uint32_t>(key.size()));
    sizes.u32(static_cast<uint32_t>(value.size()));
    add(sizes.str());
    add(key);
    add(value);
    return true;
  });
  return checked<uint64_t>(reader, hash);
}

}  // namespace cairn
