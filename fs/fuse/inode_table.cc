#include "fs/fuse/inode_table.h"

#include <algorithm>
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

std::vector<InodeId> InodeTable::all() const {
  std::vector<InodeId> out = {kRootInode};
  out.reserve(inodes_.size() + 1);
  for (const auto& [inode, known] : inodes_) {
    if (inode != kRootInode) out.push_back(inode);
  }
  return out;
}

void InodeTable::attributes_given(InodeId inode, TimePoint until) {
  if (inode == kRootInode) root_attributes_until_ = std::max(root_attributes_until_, until);
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.attributes_until = std::max(found->second.attributes_until, until);
}

void InodeTable::attributes_forgotten(InodeId inode) {
  if (inode == kRootInode) root_attributes_until_ = {};
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.attributes_until = {};
}

TimePoint InodeTable::attributes_until(InodeId inode) const {
  if (inode == kRootInode) return root_attributes_until_;
  auto found = inodes_.find(inode);
  return found == inodes_.end() ? TimePoint{} : found->second.attributes_until;
}

void InodeTable::size_told(InodeId inode, uint64_t size) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.size = size;
}

void InodeTable::size_written(InodeId inode, uint64_t end) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end() && found->second.size) found->second.size = std::max(*found->second.size, end);
}

void InodeTable::size_unknown(InodeId inode) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.size.reset();
}

std::optional<uint64_t> InodeTable::size(InodeId inode) const {
  auto found = inodes_.find(inode);
  return found == inodes_.end() ? std::nullopt : found->second.size;
}

void InodeTable::pages_given(InodeId inode) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end()) found->second.pages = true;
}

bool InodeTable::may_have_pages(InodeId inode) const {
  auto found = inodes_.find(inode);
  return found != inodes_.end() && found->second.pages;
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
