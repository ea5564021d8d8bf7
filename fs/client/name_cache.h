// NameCache: what is known under leases: attributes, names of directories and names that they do not have, whole
// listings, targets of symbolic links. The kernel asks again what it has just been told (it drops a directory's
// attributes with each new entry, and looks each name up before it creates it), and programs look at quiet trees again
// and again: what is known here costs no round trip.
//
// It knows nothing of leases: whoever asks has made sure that the inode's (for names the directory's) is held, and
// whoever tells it something got a lease with the answer. What is recalled is forgotten here first.
//
// Loop thread only; no I/O. Bounded: about `entries_max` inodes and as many names; the least recently used go first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/proto/meta_types.h"

namespace cairn {

class NameCache {
 public:
  explicit NameCache(uint64_t entries_max) : entries_max_(entries_max) {}

  // ---- attributes
  // An answer under a lease. What is older than what is known (Attributes::change) is passed over.
  void heard(const Attributes& attributes);
  // An answer without a lease: if it is newer, what is known is over.
  void heard_of(const Attributes& attributes);
  const Attributes* attributes(InodeId inode);
  void heard_target(InodeId symlink, std::string target);
  const std::string* target(InodeId symlink);  // of a symlink whose attributes are known
  // Names of extended attributes, as they are with these attributes (Attributes::change).
  void heard_xattrs(InodeId inode, uint64_t change, std::vector<std::string> names);
  const std::vector<std::string>* xattrs(InodeId inode);

  // ---- names
  // This mount made the directory: it has no names, until others or we give it some.
  void made_directory(const Attributes& directory);
  // The answer to a lookup, under the directory's lease; `directory` as it came with it, to tell late answers. Inode 0:
  // there is no such name.
  void looked_up(const Attributes& directory, const std::string& name, InodeId inode);
  // A change by this mount, with the directory as it is after. Call before heard() for the same answer.
  void added(const Attributes& directory, const std::string& name, InodeId inode);
  void removed(const Attributes& directory, const std::string& name);
  // Inode 0: there is certainly no such name. None: not known.
  std::optional<InodeId> name(InodeId directory, const std::string& name);

  // ---- listings
  // A page as the master gave it, under the directory's lease, after `cookie` (0: the first).
  void listed(uint64_t cookie, const ReadDirectoryReply& page);
  struct Page {
    std::vector<DirectoryEntry> entries;  // without attributes
    bool end = false;
    InodeId parent;
  };
  // If the whole listing is known: at most `count_max` of the entries after `cookie`.
  std::optional<Page> page(InodeId directory, uint64_t cookie, uint32_t count_max);

  // ---- what is over
  void forget_attributes(InodeId inode);
  // A name, and with it the listing and the attributes of the directory.
  void forget_name(InodeId directory, const std::string& name);
  void forget_listing(InodeId directory);
  void forget_names(InodeId directory);
  void forget(InodeId inode);  // everything about it
  void clear();

  size_t size() const { return young_.size() + old_.size(); }
  size_t names() const { return names_; }

 private:
  struct Known {
    Attributes attributes;
    std::string target;
    std::optional<std::vector<std::string>> xattrs;
  };
  struct Listed {
    std::string name;
    InodeId inode;
    FileType type = FileType::kRegular;
    uint64_t cookie = 0;
  };
  struct Name {
    bool certain = true;  // else it was recalled: it may be there or not
    InodeId inode;        // 0: it is not there
  };
  struct Directory {
    uint64_t change = 0;    // the newest that was heard with names
    bool complete = false;  // what is not among the names is not there
    std::unordered_map<std::string, Name> names;
    // In the order of cookies. `listed`: all of them, as they are; else those of the pages so far, if listing goes on.
    std::vector<Listed> listing;
    bool listed = false;
    bool listing_goes_on = false;
    uint64_t listing_change = 0;
    InodeId parent;
    uint64_t used = 0;
  };
  using Generation = std::unordered_map<InodeId, Known>;

  Known* find(InodeId inode);
  Directory& directory_of(InodeId inode);
  void set_name(Directory& directory, const std::string& name, Name value);
  void erase_name(Directory& directory, const std::string& name);
  void drop_listing(Directory& directory);
  void make_room();

  uint64_t entries_max_;
  // Two generations instead of a list: what is used moves to the young one, and when that is full the old one goes.
  Generation young_;
  Generation old_;
  std::unordered_map<InodeId, Directory> directories_;
  size_t names_ = 0;    // of all directories, and entries of listings
  uint64_t clock_ = 0;  // of `used`
};

}  // namespace cairn
