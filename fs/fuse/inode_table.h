// InodeTable: which inodes the kernel knows, and how often it has been told of each (lookup counts, which FORGET takes
// back). A FUSE nodeid is the inode number; the root is always known.
//
// With each what the FUSE side itself needs to know of it. Pure; loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

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
  // All that are known, the root first.
  std::vector<InodeId> all() const;

  // Attributes were given with a timeout that may run until then, counted by the kernel.
  void attributes_given(InodeId inode, TimePoint until);
  void attributes_forgotten(InodeId inode);
  // In the past if the kernel goes by none.
  TimePoint attributes_until(InodeId inode) const;
  // The size that the kernel goes by, as far as is known: as it was told, or has moved it by itself when it wrote to
  // the end. A READ that ended early (`size_unknown`) may have moved it, too.
  void size_told(InodeId inode, uint64_t size);
  void size_written(InodeId inode, uint64_t end);
  void size_unknown(InodeId inode);
  std::optional<uint64_t> size(InodeId inode) const;
  // A READ or WRITE of it: the kernel may hold pages.
  void pages_given(InodeId inode);
  bool may_have_pages(InodeId inode) const;

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
    TimePoint attributes_until{};
    std::optional<uint64_t> size;
    bool pages = false;
  };
  std::unordered_map<InodeId, Known> inodes_;
  TimePoint root_attributes_until_{};
};

}  // namespace cairn
