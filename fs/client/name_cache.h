// NameCache: attributes, and the names that certain directories do *not* have, kept for as long as the master's leases
// allow. The kernel asks again what it has just been told (it drops a directory's attributes with each new entry, and
// looks each name up before it creates it): what is known here costs no round trip.
//
// Loop thread only; no I/O. Bounded: about `entries_max` inodes and as many names; the least recently used go first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "common/proto/meta_types.h"
#include "common/runtime/clock.h"

namespace cairn {

class NameCache {
 public:
  explicit NameCache(uint64_t entries_max) : entries_max_(entries_max) {}

  struct Known {
    Attributes attributes;
    TimePoint until{};  // of their lease
  };

  // An answer: `until` is the end of the lease that came with it; in the past (or zero) if none did. What is older than
  // what is known (Attributes::change) is passed over.
  void heard(const Attributes& attributes, TimePoint until);
  // Under lease at `now`; else nothing.
  std::optional<Known> attributes(InodeId inode, TimePoint now);

  // This mount made the directory: it has no names, until others or we give it some.
  void made_directory(const Attributes& directory);
  // Changes by this mount, with the directory as it is after. `steps`: by how much Attributes::change moved if nobody else
  // changed the directory meanwhile; if it moved further its names are forgotten. Call before heard() for the same answer.
  void changed(const Attributes& directory, uint64_t steps);
  void added(InodeId directory, std::string_view name);
  void removed(InodeId directory, std::string_view name);
  // Certain at `now` that the directory has no such name: until when that may be relied on. Else nothing.
  std::optional<TimePoint> absent_until(InodeId directory, const std::string& name, TimePoint now);

  // It is not certain what became of a change (no answer): nothing is known of the inode any more.
  void forget(InodeId inode);
  void clear();

  size_t size() const { return young_.size() + old_.size(); }
  size_t names() const { return names_; }

 private:
  struct Directory {
    uint64_t change = 0;  // that `names` are of
    std::unordered_set<std::string> names;
    uint64_t used = 0;
  };
  using Generation = std::unordered_map<InodeId, Known>;

  Known* find(InodeId inode);
  void drop_directory(InodeId inode);
  void make_room();

  uint64_t entries_max_;
  // Two generations instead of a list: what is used moves to the young one, and when that is full the old one goes.
  Generation young_;
  Generation old_;
  std::unordered_map<InodeId, Directory> directories_;
  size_t names_ = 0;
  uint64_t clock_ = 0;  // of `used`
};

}  // namespace cairn
