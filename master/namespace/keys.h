// The keys of the metadata store: one byte for the kind of record, then ids big-endian, so that they sort as numbers. Formats:
// docs/formats.md, "Metadata records".
//
// What a snapshot will have to keep (inodes, names, refs, xattrs) ends in an epoch: the last one in which the record is valid. The living
// tree is kHeadEpoch, which sorts after all others; the state at an epoch is the first record at or after it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace cairn::keys {

inline constexpr uint64_t kHeadEpoch = UINT64_MAX;

enum class Kind : char {
  kCluster = 'A',
  kCounters = 'B',
  kInode = 'i',         // inode, epoch
  kDentry = 'd',        // parent, name, 0, epoch
  kCookie = 'e',        // parent, cookie, epoch
  kRef = 'r',           // inode, index, epoch
  kXattr = 'x',         // inode, name, 0, epoch
  kChunk = 'c',         // chunk
  kServerChunk = 's',   // server, chunk
  kAttention = 'a',     // chunk
  kOpenChunk = 'o',     // session, chunk
  kSession = 'n',       // session
  kReply = 'y',         // session, sequence
  kOrphan = 'p',        // inode
  kSessionOrphan = 'q', // session, inode
  kServer = 'v',        // server
  kGarbage = 'g',       // server, chunk
  kGarbageDue = 'h',    // server, due time, chunk
  kWork = 'w',          // number
  kLocks = 'l',         // inode
  kSessionLocks = 'm',  // session, inode
};

std::string cluster();
std::string counters();
std::string inode(InodeId inode);
std::string dentry(InodeId parent, std::string_view name);
std::string cookie(InodeId parent, uint64_t cookie);
std::string cookie_start(InodeId parent, uint64_t cookie);  // before every record of that cookie
std::string ref(InodeId inode, uint32_t index);
std::string xattr(InodeId inode, std::string_view name);
std::string chunk(ChunkId chunk);
std::string server_chunk(ServerId server, ChunkId chunk);
std::string attention(ChunkId chunk);
std::string open_chunk(SessionId session, ChunkId chunk);
std::string session(SessionId session);
std::string reply(SessionId session, uint64_t sequence);
std::string orphan(InodeId inode);
std::string session_orphan(SessionId session, InodeId inode);
std::string server(ServerId server);
std::string garbage(ServerId server, ChunkId chunk);
std::string garbage_due(ServerId server, uint64_t due_ms, ChunkId chunk);
std::string work(uint64_t number);
std::string locks(InodeId inode);
std::string session_locks(SessionId session, InodeId inode);

// All records of a kind, or those of a kind whose first id is this one.
std::string prefix(Kind kind);
std::string prefix(Kind kind, uint64_t first_id);

// False for what is kept decoded (Transaction::Tables), what is only scanned, and replies, which are asked for again only after
// something has failed: a cache of records would fill with them.
bool is_looked_up(std::string_view key);

// The parts of a key of the kind named; the key must be one that this file made.
uint64_t first_id(std::string_view key);          // the id after the kind
uint64_t second_id(std::string_view key);         // the id after that (chunk, inode, sequence, cookie, due time)
uint64_t third_id(std::string_view key);          // garbage_due: the chunk
uint32_t ref_index(std::string_view key);
std::string_view name_of(std::string_view key);   // dentry, xattr

}  // namespace cairn::keys
