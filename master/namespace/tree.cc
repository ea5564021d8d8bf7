#include "master/namespace/tree.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/units.h"
#include "master/namespace/chunk_table.h"

namespace cairn {
namespace {

// A file with more chunks, or more holes between them, or more xattrs, is removed by Tick.
constexpr uint32_t kInlineRemoveChunks = 16;
constexpr uint32_t kInlineRemoveXattrs = 16;

uint64_t chunks_in(uint64_t size) {
  return (size + kChunkSizeBytes - 1) / kChunkSizeBytes;
}

// Removes the chunks at once if they are few and easily found.
bool remove_chunks_inline(Transaction& tx, const InodeRecord& inode) {
  if (inode.chunk_count == 0) return true;
  const uint64_t indexes = chunks_in(inode.attributes.size);
  if (!inode.cuts.empty() || inode.chunk_count > kInlineRemoveChunks || indexes > 2 * kInlineRemoveChunks) return false;
  if (!tx.take_inline_removals(inode.chunk_count)) return false;
  uint32_t found = 0;
  for (uint32_t index = 0; index < indexes && found < inode.chunk_count; ++index) {
    std::optional<ChunkRef> ref = tx.ref(inode.attributes.inode, index);
    if (!ref) continue;
    drop_ref(tx, inode.attributes.inode, nullptr, index, *ref);
    ++found;
  }
  return found == inode.chunk_count;
}

bool remove_xattrs_inline(Transaction& tx, const InodeRecord& inode) {
  if (inode.xattr_count == 0) return true;
  if (inode.xattr_count > kInlineRemoveXattrs || !tx.take_inline_removals(inode.xattr_count)) return false;
  const std::string prefix = keys::prefix(keys::Kind::kXattr, inode.attributes.inode.value);
  std::vector<std::string> found;
  tx.scan(prefix, prefix, [&](std::string_view key, std::string_view) {
    found.emplace_back(key);
    return true;
  });
  for (std::string& key : found)
    tx.erase(std::move(key));
  return true;
}

}  // namespace

Result<void> check_name(std::string_view name) {
  if (name.size() > kMaxNameBytes) return ErrorCode::kNameTooLong;
  if (name.empty() || name == "." || name == "..") return ErrorCode::kInvalid;
  if (name.find('/') != name.npos || name.find('\0') != name.npos) return ErrorCode::kInvalid;
  return {};
}

Result<InodeRecord> find_inode(const RecordReader& records, InodeId id) {
  std::optional<InodeRecord> inode = records.inode(id);
  if (!inode) return ErrorCode::kStale;
  return std::move(*inode);
}

Result<InodeRecord> find_directory(const RecordReader& records, InodeId id) {
  Result<InodeRecord> inode = find_inode(records, id);
  if (inode && inode->attributes.type != FileType::kDirectory) return ErrorCode::kNotDirectory;
  return inode;
}

std::optional<DentryRecord> find_entry(const RecordReader& records, const InodeRecord& directory,
                                       std::string_view name) {
  if (directory.attributes.size == 0) return std::nullopt;  // a new directory costs no look-ups
  return records.dentry(directory.attributes.inode, name);
}

bool is_within(const RecordReader& records, InodeId directory, InodeId ancestor) {
  while (directory != ancestor) {
    if (directory == kRootInode) return false;
    std::optional<InodeRecord> inode = records.inode(directory);
    if (!inode) return false;
    directory = inode->parent;
  }
  return true;
}

static void put_entry(Transaction& tx, InodeId directory, std::string_view name, const DentryRecord& entry) {
  tx.put(keys::dentry(directory, name), encode(entry));
  tx.put(keys::cookie(directory, entry.cookie), encode(CookieRecord{entry.inode, entry.type, std::string(name)}));
}

void add_entry(Transaction& tx, InodeRecord& directory, std::string_view name, InodeId inode, FileType type,
               FileTime now) {
  put_entry(tx, directory.attributes.inode, name, DentryRecord{inode, type, directory.next_cookie++});
  ++directory.attributes.size;
  touch_content(directory, now);
}

void remove_entry(Transaction& tx, InodeRecord& directory, std::string_view name, const DentryRecord& entry,
                  FileTime now) {
  CHECK(directory.attributes.size > 0);
  tx.erase(keys::dentry(directory.attributes.inode, name));
  tx.erase(keys::cookie(directory.attributes.inode, entry.cookie));
  --directory.attributes.size;
  touch_content(directory, now);
}

void replace_entry(Transaction& tx, InodeRecord& directory, std::string_view name, const DentryRecord& entry,
                   InodeId inode, FileType type, FileTime now) {
  put_entry(tx, directory.attributes.inode, name, DentryRecord{inode, type, entry.cookie});
  touch_content(directory, now);
}

FileTime touch(InodeRecord& inode, FileTime now) {
  Attributes& a = inode.attributes;
  a.ctime = std::max(now, a.ctime + 1);
  ++a.change;
  return a.ctime;
}

void touch_content(InodeRecord& inode, FileTime now) {
  inode.attributes.mtime = touch(inode, now);
}

void remove_inode(Transaction& tx, const InodeRecord& inode) {
  tx.put_locks(inode.attributes.inode, {});
  const InodeId id = inode.attributes.inode;
  tx.erase(keys::inode(id));
  --tx.counters().inodes;
  tx.counters().allocated_bytes -= inode.attributes.allocated_bytes;
  const bool chunks_gone = remove_chunks_inline(tx, inode);
  const bool xattrs_gone = remove_xattrs_inline(tx, inode);
  if (!chunks_gone || !xattrs_gone) push_work(tx, {.kind = WorkRecord::Kind::kRemoveInode, .inode = id});
}

void drop_name(Transaction& tx, InodeRecord& inode, const std::vector<SessionId>& holders, FileTime now) {
  CHECK(inode.attributes.nlink > 0 && inode.attributes.type != FileType::kDirectory);
  --inode.attributes.nlink;
  touch(inode, now);
  if (inode.attributes.nlink > 0) {
    tx.put_inode(inode);
    return;
  }
  OrphanRecord orphan;
  for (SessionId holder : holders) {
    std::optional<SessionRecord> session = tx.session(holder);
    if (session && !session->ended) orphan.holders.push_back(holder);
  }
  std::sort(orphan.holders.begin(), orphan.holders.end());
  orphan.holders.erase(std::unique(orphan.holders.begin(), orphan.holders.end()), orphan.holders.end());
  if (orphan.holders.empty()) {
    remove_inode(tx, inode);
    return;
  }
  const InodeId id = inode.attributes.inode;
  for (SessionId holder : orphan.holders)
    tx.put(keys::session_orphan(holder, id), {});
  tx.put(keys::orphan(id), encode(orphan));
  ++tx.counters().orphans;
  tx.put_inode(inode);
}

void release_orphan(Transaction& tx, SessionId session, InodeId id) {
  std::optional<OrphanRecord> orphan = tx.orphan(id);
  if (!orphan || std::erase(orphan->holders, session) == 0) return;
  tx.erase(keys::session_orphan(session, id));
  if (!orphan->holders.empty()) {
    tx.put(keys::orphan(id), encode(*orphan));
    return;
  }
  tx.erase(keys::orphan(id));
  --tx.counters().orphans;
  if (std::optional<InodeRecord> inode = tx.inode(id)) remove_inode(tx, *inode);
}

// Removes the refs from `first` on, or leaves that to Tick and makes them invisible.
static void drop_refs_from(Transaction& tx, InodeRecord& inode, uint32_t first, uint64_t end) {
  if (inode.chunk_count == 0 || first >= end) return;
  const InodeId id = inode.attributes.inode;
  if (end - first <= kInlineRemovalsPerEntry && tx.take_inline_removals(static_cast<uint32_t>(end - first))) {
    for (uint32_t index = first; index < end && inode.chunk_count > 0; ++index) {
      if (std::optional<ChunkRef> ref = tx.ref(id, index)) drop_ref(tx, id, &inode, index, *ref);
    }
    return;
  }
  const CutRecord cut{first, ++inode.epoch};
  // Of a cut further back nothing is left to say: this one covers it.
  std::erase_if(inode.cuts, [&](const CutRecord& older) { return older.first_index >= first; });
  inode.cuts.push_back(cut);
  push_work(tx, {.kind = WorkRecord::Kind::kCut, .inode = id, .next = first, .cut = cut});
}

void limit_ref(Transaction& tx, InodeRecord& inode, uint32_t index, ChunkRef ref, uint32_t limit) {
  if (limit >= ref.limit) return;
  ref.limit = limit;
  const uint32_t kept = visible_allocation(ref.allocated_bytes, limit);
  inode.attributes.allocated_bytes -= ref.allocated_bytes - kept;
  tx.counters().allocated_bytes -= ref.allocated_bytes - kept;
  ref.allocated_bytes = kept;
  tx.put(keys::ref(inode.attributes.inode, index), encode(ref));
}

uint32_t visible_allocation(uint32_t allocated_bytes, uint32_t limit) {
  const uint64_t blocks = (uint64_t{limit} + kBlockSizeBytes - 1) / kBlockSizeBytes;
  return static_cast<uint32_t>(std::min<uint64_t>(allocated_bytes, blocks * kBlockSizeBytes));
}

void resize(Transaction& tx, InodeRecord& inode, uint64_t size) {
  Attributes& a = inode.attributes;
  if (size < a.size) {
    drop_refs_from(tx, inode, static_cast<uint32_t>(chunks_in(size)), chunks_in(a.size));
    const auto index = static_cast<uint32_t>(size / kChunkSizeBytes);
    const auto limit = static_cast<uint32_t>(size % kChunkSizeBytes);
    std::optional<ChunkRef> ref;
    if (limit != 0) ref = tx.ref(a.inode, index);
    if (ref && alive(inode, index, *ref)) limit_ref(tx, inode, index, *ref, limit);
  }
  a.size = size;
  ++a.data_change;
}

void push_work(Transaction& tx, const WorkRecord& work) {
  tx.put(keys::work(tx.counters().next_work++), encode(work));
  ++tx.counters().work;
}

}  // namespace cairn
