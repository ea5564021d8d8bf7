// Open directories. The kernel asks for few entries at a time, the file system gives about a thousand: what was given
// and not yet asked for is kept with the handle. An offset is the cookie of the entry before it ("." is 1, ".." is 2),
// so a listing goes on at the right place whatever has been removed or added meanwhile.
//
// Pure; loop thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/runtime/clock.h"
#include "fs/client/file_system.h"

namespace cairn {

inline constexpr uint64_t kDotCookie = 1;
inline constexpr uint64_t kDotDotCookie = 2;
inline constexpr uint32_t kListingEntriesMax = 1000;  // of one question: about 100 KiB with attributes

// A part of a listing.
struct DirectoryPage {
  uint64_t after = 0;  // the entries follow this cookie (0: from the start)
  std::vector<DirectoryEntry> entries;
  bool end = false;
  bool plus = false;  // with attributes
  TimePoint asked{};
  bool names_removed = false;  // since it was asked for: the kernel must not take its names for true
  InodeId parent;
  TimePoint valid_until{};  // of names and attributes: what is given later is given without a timeout

  // Where to go on after `cookie`; nothing if the page does not say. entries.size() if all of it lies before.
  std::optional<size_t> position_after(uint64_t cookie) const;
};

class DirectoryHandles {
 public:
  uint64_t open(InodeId directory);
  void release(uint64_t handle);
  // The page that was stored last, if it can serve what follows `cookie`; nullptr if it must be fetched.
  const DirectoryPage* page(uint64_t handle, uint64_t cookie, bool plus) const;
  // For a handle that has been released meanwhile: forgotten.
  void store(uint64_t handle, DirectoryPage page);
  // A page is asked of the file system. What is recalled before fetched() is not in it: attributes are taken out, and
  // with a name of the directory all its names are marked as removed.
  uint64_t fetching(InodeId directory);
  void fetched(uint64_t fetch, DirectoryPage& page);

  // Others change a name of the directory: nothing that is kept of it is given any more.
  void names_recalled(InodeId directory);
  // Others change the inode: its attributes are not given any more.
  void attributes_recalled(InodeId inode);
  void everything_recalled();

  // An answer to READDIRPLUS brought names with timeouts: the kernel takes them in some time later, for as true as they
  // are then. Proof that it has is the handle's next request.
  void plus_given(uint64_t handle, TimePoint now);
  // A request of the handle has come. True if a recall waits for that proof (`wait_for_proof`).
  bool plus_taken(uint64_t handle);
  // When the last one was given of those of the directory that are under way.
  std::optional<TimePoint> plus_under_way(InodeId directory) const;
  bool any_plus_under_way() const;
  // plus_taken() is to tell of those handles of the directory (an inode of 0: of all) that are under way.
  void wait_for_proof(InodeId directory);

  // A name of the directory was removed or renamed. (Not while a page of it is fetched: the kernel's lock of the
  // directory is held.)
  void names_removed(InodeId directory);
  size_t size() const { return handles_.size(); }

 private:
  struct Handle {
    InodeId directory;
    DirectoryPage page;
    bool has_page = false;
    std::optional<TimePoint> plus_given;  // and not yet taken
    bool proof_wanted = false;
  };
  struct Fetch {
    InodeId directory;
    bool names_recalled = false;
    bool all_recalled = false;
    std::vector<InodeId> recalled;
  };
  static constexpr size_t kRecalledMax = 256;  // of one fetch; more count as all
  std::unordered_map<uint64_t, Handle> handles_;
  std::unordered_map<uint64_t, Fetch> fetches_;
  uint64_t next_ = 1;
};

// Cookie for the file system's read_directory() after the kernel's offset.
inline uint64_t file_system_cookie(uint64_t offset) {
  return offset <= kDotDotCookie ? 0 : offset;
}

}  // namespace cairn
