// InodeTable: which inodes the kernel knows, and how often it has been told of each (lookup counts, which FORGET takes
// back). A FUSE nodeid is the inode number; the root is always known.
//
// With each what the FUSE side itself needs to know of it. Pure; loop thread only.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "common/base/ids.h"
#include "common/proto/meta_types.h"
#include "common/runtime/clock.h"

namespace cairn {

class InodeTable {
 public:
  // A reply with this entry goes to the kernel.
  void looked_up(const Attributes& attributes);
  // Newer attributes of an inode that may be known.
  void seen(const Attributes& attributes);
  // An operation of this mount's kernel changed it: what was asked before is old.
  void changed(InodeId inode, TimePoint now);
  bool changed_since(InodeId inode, TimePoint when) const;
  // True if the kernel knows it no longer.
  bool forget(InodeId inode, uint64_t count);
  uint64_t lookups(InodeId inode) const;
  size_t size() const { return inodes_.size(); }

  // A write must clear bits: set-user-id, or set-group-id of an executable file.
  bool has_set_id(InodeId inode) const;

  // The inode was just made here and has no extended attributes, until its lease ends or somebody gives it one. Saves a
  // question for each new file: the kernel asks for security.capability before the first write.
  void no_xattrs(InodeId inode, TimePoint until);
  void may_have_xattrs(InodeId inode);
  bool has_no_xattrs(InodeId inode, TimePoint now) const;

 private:
  struct Known {
    uint64_t lookups = 0;
    uint32_t mode = 0;
    FileType type = FileType::kRegular;
    TimePoint no_xattrs_until{};
    TimePoint changed{};
  };
  std::unordered_map<InodeId, Known> inodes_;
};

}  // namespace cairn
