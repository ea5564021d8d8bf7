// What the namespace operations (ops/) share: names, entries, times, the last name of an inode. Functions on a Transaction; an InodeRecord that a function
// takes by reference is changed, and written only where it says so.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "master/namespace/records.h"
#include "master/namespace/transaction.h"

namespace cairn {

// 1..255 bytes without '/' and NUL, neither "." nor "..": else kInvalid or kNameTooLong.
Result<void> check_name(std::string_view name);

// kStale if there is no such inode (another mount removed it: the kernel looks the path up again), kNotDirectory if it is none.
Result<InodeRecord> find_directory(const RecordReader& records, InodeId id);
Result<InodeRecord> find_inode(const RecordReader& records, InodeId id);

std::optional<DentryRecord> find_entry(const RecordReader& records, const InodeRecord& directory, std::string_view name);
// True if `directory` is `ancestor` or lies below it.
bool is_within(const RecordReader& records, InodeId directory, InodeId ancestor);

// Entries also move the directory's size (not its links), times and change counter. The directory is not written.
void add_entry(Transaction& tx, InodeRecord& directory, std::string_view name, InodeId inode, FileType type, FileTime now);
void remove_entry(Transaction& tx, InodeRecord& directory, std::string_view name, const DentryRecord& entry, FileTime now);
// The name stands for another inode from now on, and keeps its place in listings.
void replace_entry(Transaction& tx, InodeRecord& directory, std::string_view name, const DentryRecord& entry, InodeId inode,
                   FileType type, FileTime now);

// ctime = now, or just after the last one if that is later: every change is seen, and ctime never goes backwards. Moves `change`. Gives the time.
FileTime touch(InodeRecord& inode, FileTime now);
// The same, and mtime with it.
void touch_content(InodeRecord& inode, FileTime now);

// One name of `inode`, which is no directory, is gone. With the last one it becomes an orphan if one of `holders` (sessions) lives, else it is
// removed. Writes or erases it.
void drop_name(Transaction& tx, InodeRecord& inode, const std::vector<SessionId>& holders, FileTime now);
// The inode goes, with chunks and xattrs (a large file's later, in steps).
void remove_inode(Transaction& tx, const InodeRecord& inode);
// The session does not hold the orphan any more; the last one to let go removes it. No error if it did not hold it.
void release_orphan(Transaction& tx, SessionId session, InodeId inode);

// Shortens or extends a regular file: chunks beyond the end go, the one that is cut gets a limit. The inode is not written.
void resize(Transaction& tx, InodeRecord& inode, uint64_t size);
// What the ref's chunk holds at and above `limit` reads as zeros from now on, unless the limit is lower already. The inode is not written.
void limit_ref(Transaction& tx, InodeRecord& inode, uint32_t index, ChunkRef ref, uint32_t limit);
// What a chunk that holds `allocated_bytes` counts for when only what is below `limit` can be seen: whole blocks.
uint32_t visible_allocation(uint32_t allocated_bytes, uint32_t limit);

// Something for Tick to do.
void push_work(Transaction& tx, const WorkRecord& work);

}  // namespace cairn
