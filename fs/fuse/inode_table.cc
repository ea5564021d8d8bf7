#include "fs/fuse/inode_table.h"

#include <sys/stat.h>

namespace cairn {

void InodeTable::looked_up(const Attributes& attributes) {
  Known& known = inodes_[attributes.inode];
  ++known.lookups;
  known.mode = attributes.mode;
  known.type = attributes.type;
}

void InodeTable::seen(const Attributes& attributes) {
  auto found = inodes_.find(attributes.inode);
  if (found == inodes_.end()) return;
  found->second.mode = attributes.mode;
  found->second.type = attributes.type;
}

void InodeTable::changed(InodeId inode, TimePoint now) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.changed = now;
}

bool InodeTable::changed_since(InodeId inode, TimePoint when) const {
  auto found = inodes_.find(inode);
  return found != inodes_.end() && found->second.changed >= when;
}

bool InodeTable::forget(InodeId inode, uint64_t count) {
  auto found = inodes_.find(inode);
  if (found == inodes_.end()) return false;
  if (found->second.lookups > count) {
    found->second.lookups -= count;
    return false;
  }
  inodes_.erase(found);
  return true;
}

uint64_t InodeTable::lookups(InodeId inode) const {
  if (inode == kRootInode) return 1;
  auto found = inodes_.find(inode);
  return found == inodes_.end() ? 0 : found->second.lookups;
}

bool InodeTable::has_set_id(InodeId inode) const {
  auto found = inodes_.find(inode);
  if (found == inodes_.end() || found->second.type != FileType::kRegular) return false;
  uint32_t mode = found->second.mode;
  return (mode & S_ISUID) != 0 || ((mode & S_ISGID) != 0 && (mode & S_IXGRP) != 0);
}

void InodeTable::no_xattrs(InodeId inode, TimePoint until) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.no_xattrs_until = until;
}

void InodeTable::may_have_xattrs(InodeId inode) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.no_xattrs_until = {};
}

bool InodeTable::has_no_xattrs(InodeId inode, TimePoint now) const {
  auto found = inodes_.find(inode);
  return found != inodes_.end() && now < found->second.no_xattrs_until;
}

}  // namespace cairn
