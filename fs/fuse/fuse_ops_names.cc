// FuseOps: names and directories.
#define FUSE_USE_VERSION 314

#include <algorithm>
#include <cerrno>
#include <fuse_lowlevel.h>
#include <sys/stat.h>
#include <utility>

#include "fs/fuse/fuse_ops.h"

namespace cairn {

namespace {

Result<FileType> node_type(uint32_t mode) {
  switch (mode & S_IFMT) {
    case 0:
    case S_IFREG:
      return FileType::kRegular;
    case S_IFIFO:
      return FileType::kFifo;
    case S_IFSOCK:
      return FileType::kSocket;
    case S_IFCHR:
      return FileType::kCharDevice;
    case S_IFBLK:
      return FileType::kBlockDevice;
    default:
      return Error(ErrorCode::kInvalid, "mknod of that type");
  }
}

}  // namespace

Task<void> FuseOps::lookup(Reply reply, InodeId parent, std::string name) {
  if (name == ".") {
    Result<AttributesView> self = co_await file_system_.get_attributes(parent);
    Result<Entry> entry = self ? Result<Entry>(Entry{.attributes = self->attributes, .valid_for = self->valid_for})
                               : Result<Entry>(self.error());
    give_entry(reply, parent, entry);
    co_return;
  }
  Result<Entry> entry = co_await file_system_.lookup(parent, std::move(name));
  give_entry(reply, parent, entry);
}

Task<void> FuseOps::lookup_parent(Reply reply, InodeId directory) {
  Result<FileSystem::Listing> listing = co_await file_system_.read_directory(directory, 0, 1, false);
  if (!listing) {
    reply.error(listing.error());
    co_return;
  }
  co_await lookup(std::move(reply), listing->parent ? listing->parent : kRootInode, ".");
}

Task<void> FuseOps::make_node(Reply reply, InodeId parent, std::string name, uint32_t mode, uint32_t rdev,
                              Caller caller) {
  Result<FileType> type = node_type(mode);
  if (!type) {
    reply.error(type.error());
    co_return;
  }
  OwnChange change(state_.traffic, parent);
  Result<Entry> entry = co_await file_system_.make_node(parent, std::move(name), *type, mode & 07777, rdev, caller);
  give_entry(reply, parent, entry);
}

Task<void> FuseOps::make_directory(Reply reply, InodeId parent, std::string name, uint32_t mode, Caller caller) {
  OwnChange change(state_.traffic, parent);
  Result<Entry> entry = co_await file_system_.make_directory(parent, std::move(name), mode & 07777, caller);
  give_entry(reply, parent, entry);
}

Task<void> FuseOps::make_symlink(Reply reply, InodeId parent, std::string name, std::string target, Caller caller) {
  OwnChange change(state_.traffic, parent);
  Result<Entry> entry = co_await file_system_.make_symlink(parent, std::move(name), std::move(target), caller);
  give_entry(reply, parent, entry);
}

Task<void> FuseOps::link(Reply reply, InodeId inode, InodeId new_parent, std::string new_name) {
  OwnChange change(state_.traffic, new_parent);
  Result<Entry> entry = co_await file_system_.link(inode, new_parent, std::move(new_name));
  inodes_.changed(inode, world_.clock().now());
  // The kernel would take the attributes for true although it was told meanwhile that they are not.
  if (entry) entry->valid_for = {};
  give_entry(reply, new_parent, entry);
}

Task<void> FuseOps::unlink(Reply reply, InodeId parent, std::string name) {
  OwnChange change(state_.traffic, parent);
  Result<void> removed = co_await file_system_.unlink(parent, std::move(name));
  directories_.names_removed(parent);
  reply.result(removed);
}

Task<void> FuseOps::remove_directory(Reply reply, InodeId parent, std::string name) {
  OwnChange change(state_.traffic, parent);
  Result<void> removed = co_await file_system_.remove_directory(parent, std::move(name));
  directories_.names_removed(parent);
  reply.result(removed);
}

Task<void> FuseOps::rename(Reply reply, InodeId parent, std::string name, InodeId new_parent, std::string new_name,
                           uint32_t flags) {
  OwnChange from(state_.traffic, parent);
  OwnChange to(state_.traffic, new_parent);
  state_.times.name_moves(parent, new_parent);
  Result<void> renamed = co_await file_system_.rename(parent, std::move(name), new_parent, std::move(new_name), flags);
  directories_.names_removed(parent);
  directories_.names_removed(new_parent);  // what was there was replaced
  state_.times.name_moves(parent, new_parent);
  reply.result(renamed);
}

Task<void> FuseOps::read_link(Reply reply, InodeId inode) {
  Result<std::string> target = co_await file_system_.read_link(inode);
  if (target) {
    reply.link_target(*target);
  } else {
    reply.error(target.error());
  }
}

// ---------------------------------------------------------------- listings

Task<void> FuseOps::read_directory(Reply reply, InodeId directory, uint64_t handle, uint64_t offset, size_t size,
                                   bool plus) {
  directory_asked(handle);
  const DirectoryPage* kept = directories_.page(handle, offset, plus);
  if (kept) {
    give_listing(std::move(reply), *kept, directory, handle, offset, size, plus);
    co_return;
  }
  DirectoryPage page;
  page.after = file_system_cookie(offset);
  page.plus = plus;
  page.asked = world_.clock().now();
  uint64_t fetch = directories_.fetching(directory);
  Result<FileSystem::Listing> listing =
      co_await file_system_.read_directory(directory, page.after, kListingEntriesMax, plus);
  if (listing) page.entries = std::move(listing->entries);
  directories_.fetched(fetch, page);
  if (!listing) {
    reply.error(listing.error());
    co_return;
  }
  page.end = listing->end || page.entries.empty();
  page.parent = listing->parent;
  page.valid_until = world_.clock().now() + listing->valid_for;
  give_listing(std::move(reply), page, directory, handle, offset, size, plus);
  directories_.store(handle, std::move(page));
}

void FuseOps::give_listing(Reply reply, const DirectoryPage& page, InodeId directory, uint64_t handle, uint64_t offset,
                           size_t size, bool plus) {
  std::string out(size, '\0');
  size_t used = 0;
  Duration names = std::min(page.valid_until - world_.clock().now(), file_system_.lease_left(directory));
  bool timed = false;  // a name was given with a timeout
  // False if it does not fit any more.
  auto add = [&](const std::string& name, const fuse_entry_param& param, uint64_t cookie) {
    char* at = out.data() + used;
    size_t room = size - used;
    auto next = static_cast<off_t>(cookie);
    size_t needed = plus ? fuse_add_direntry_plus(reply.request(), at, room, name.c_str(), &param, next)
                         : fuse_add_direntry(reply.request(), at, room, name.c_str(), &param.attr, next);
    if (needed > room) return false;
    used += needed;
    return true;
  };
  // Inode 0: the entry's number and type without an inode for the kernel to keep.
  auto bare = [](InodeId inode, FileType type) {
    fuse_entry_param param{};
    param.attr.st_ino = inode.value;
    param.attr.st_mode = file_type_bits(type);
    return param;
  };

  bool fits = true;
  if (offset < kDotCookie) fits = add(".", bare(directory, FileType::kDirectory), kDotCookie);
  if (fits && offset < kDotDotCookie) {
    InodeId parent = page.parent ? page.parent : directory;
    fits = add("..", bare(parent, FileType::kDirectory), kDotDotCookie);
  }
  std::vector<Attributes> counted;
  size_t position = page.position_after(file_system_cookie(offset)).value_or(page.entries.size());
  for (; fits && position < page.entries.size(); ++position) {
    const DirectoryEntry& entry = page.entries[position];
    // The kernel would take old attributes, and names that are gone, for what is there now.
    bool known =
        plus && entry.attributes.has_value() && !page.names_removed && !inodes_.changed_since(entry.inode, page.asked);
    if (!known) {
      fits = add(entry.name, bare(entry.inode, entry.type), entry.cookie);
      continue;
    }
    EntryTimes times{.name = state_.times.of_name(directory, names),
                     .attributes = state_.times.of_attributes(entry.inode, file_system_.lease_left(entry.inode))};
    Attributes attributes = with_known_size(*entry.attributes, times.attributes);
    fits = add(entry.name, to_entry_param(attributes, times), entry.cookie);
    if (!fits) continue;
    inodes_.looked_up(attributes);
    inodes_.size_told(entry.inode, attributes.size);
    attribute_time(entry.inode, times.attributes);
    timed = timed || times.name > Duration::zero();
    counted.push_back(attributes);
  }
  out.resize(used);
  if (timed) directories_.plus_given(handle, world_.clock().now());
  if (reply.bytes(out)) return;
  for (const Attributes& attributes : counted)
    forget_inode(attributes.inode, 1);
}

void FuseOps::directory_asked(uint64_t handle) {
  if (directories_.plus_taken(handle)) notifier_.names_taken();
}

void FuseOps::release_directory(Reply reply, uint64_t handle) {
  directory_asked(handle);
  directories_.release(handle);
  reply.error(0);
}

Task<void> FuseOps::fsync_directory(Reply reply, InodeId directory) {
  Result<void> synced = co_await file_system_.fsync_directory(directory);
  reply.result(synced);
}

}  // namespace cairn
