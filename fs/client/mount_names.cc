// Mount: names and attributes, each a question to the master.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "fs/client/mount.h"

namespace cairn {

namespace {
constexpr uint32_t kRenameNoReplace = 1;  // <linux/fs.h>: RENAME_NOREPLACE, RENAME_EXCHANGE
constexpr uint32_t kRenameExchange = 2;
constexpr size_t kListingUnknownPart = 16;  // a listing is answered from what is known if fewer attributes are missing
}  // namespace

Result<void> Mount::writable() const {
  if (options_.read_only) return Error(ErrorCode::kReadOnly);
  return {};
}

class Mount::Changing {
 public:
  Changing(Mount& mount, const std::vector<NameChange>& names, InodeId inode) : mount_(mount) {
    for (const NameChange& change : names) {
      inodes_.push_back(mount_.changing_.insert(change.directory));
      names_.push_back(mount_.changing_names_.insert({change.directory, change.name}));
      std::optional<InodeId> child = mount_.names_.name(change.directory, change.name);
      if (child && *child) inodes_.push_back(mount_.changing_.insert(*child));
    }
    if (inode) inodes_.push_back(mount_.changing_.insert(inode));
  }
  ~Changing() {
    for (auto place : inodes_)
      mount_.changing_.erase(place);
    for (auto place : names_)
      mount_.changing_names_.erase(place);
  }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;
  // Directories, and what had the names when it began.
  std::vector<InodeId> inodes() const {
    std::vector<InodeId> all;
    for (auto place : inodes_)
      all.push_back(*place);
    return all;
  }

 private:
  Mount& mount_;
  std::vector<std::multiset<InodeId>::iterator> inodes_;
  std::vector<std::multiset<std::pair<InodeId, std::string>>::iterator> names_;
};

// What the kernel may keep: nothing of attributes that move when what was written is committed.
Duration Mount::left(InodeId inode) const {
  auto found = inodes_.find(inode);
  bool dirty = found != inodes_.end() && found->second->writer && found->second->writer->dirty();
  return dirty || changing(inode) ? Duration::zero() : leases_.left(inode);
}

Duration Mount::left_of(const Attributes& attributes) {
  const Attributes* now = known(attributes.inode);
  return now && now->change == attributes.change ? left(attributes.inode) : Duration::zero();
}

Entry Mount::entry_of(InodeId parent, const std::string& name, const Attributes& attributes) {
  Attributes seen = seen_here(attributes);
  std::optional<InodeId> there = names_.name(parent, name);
  bool named = there && *there == attributes.inode && attributes.inode;
  return Entry{.attributes = seen,
               .valid_for = left_of(seen),
               .name_valid_for = named ? leases_.left(parent) : Duration::zero()};
}

Task<Result<MutationReply>> Mount::mutate(MetaOp op, std::vector<NameChange> names, InodeId inode) {
  Changing changing(*this, names, inode);
  Result<MutationReply> reply = co_await master_.mutate(std::move(op));
  if (!reply) {
    // It may have happened all the same.
    for (const NameChange& change : names)
      names_.forget_name(change.directory, change.name);
    for (InodeId touched : changing.inodes()) {
      names_.forget_listing(touched);
      names_.forget_attributes(touched);
    }
    co_return reply;
  }
  for (const NameChange& change : names) {
    bool second = reply->new_parent.inode && change.directory == reply->new_parent.inode;
    const Attributes& directory = second ? reply->new_parent : reply->parent;
    bool leased = leases_.granted(change.directory, reply->parent_lease);
    if (!leased || directory.inode != change.directory) {
      names_.forget_name(change.directory, change.name);
    } else if (change.there) {
      names_.added(directory, change.name, change.inode ? change.inode : reply->attributes.inode);
    } else {
      names_.removed(directory, change.name);
    }
  }
  hear(reply->parent, reply->parent_lease);
  if (reply->new_parent.inode != reply->parent.inode) hear(reply->new_parent, reply->parent_lease);
  hear(reply->attributes, reply->lease);
  // What is open goes by these, too, now that a lease may say that they are right.
  tasks_.spawn(learn_and_forget_pages(reply->attributes));
  // No lease comes with what was replaced: what is known of it is over.
  names_.forget_attributes(reply->replaced.inode);
  co_return reply;
}

Task<Result<MutationReply>> Mount::mutate_inode(MetaOp op, InodeId inode) {
  Changing changing(*this, {}, inode);
  Inode* state = find(inode);
  if (state) ++state->operations;
  Result<MutationReply> reply = co_await master_.mutate(std::move(op));
  if (state) --state->operations;
  if (!reply) {
    names_.forget_attributes(inode);  // it may have happened all the same
    co_return reply;
  }
  hear(reply->attributes, reply->lease);
  co_return reply;
}

Task<Result<Entry>> Mount::lookup(InodeId parent, std::string name) {
  if (name.size() > kMaxNameBytes) co_return Error(ErrorCode::kNameTooLong);  // also where all names are known
  if (leases_.usable(parent) && !changing(parent, name)) {
    std::optional<InodeId> there = names_.name(parent, name);
    if (there) leases_.used(parent);
    if (there && !*there) co_return Entry{};
    const Attributes* attributes = there ? known(*there) : nullptr;
    if (attributes) co_return entry_of(parent, name, *attributes);
  }
  LookupRequest request;
  request.parent = parent;
  request.name = name;
  auto reply = co_await master_.ask(std::move(request));
  if (!reply) co_return reply.error();
  if (reply->parent.inode) {
    if (leases_.granted(parent, reply->parent_lease)) names_.looked_up(reply->parent, name, reply->attributes.inode);
    hear(reply->parent, reply->parent_lease);
  }
  if (!reply->attributes.inode) co_return Entry{};
  hear(reply->attributes, reply->lease);
  if (!reply->symlink_target.empty() && leases_.usable(reply->attributes.inode))
    names_.heard_target(reply->attributes.inode, std::move(reply->symlink_target));
  co_await learn_and_forget_pages(reply->attributes);
  co_return entry_of(parent, name, reply->attributes);
}

Task<Result<Entry>> Mount::create_any(CreateOp op) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed.error();
  bool open = op.open;
  bool directory = op.type == FileType::kDirectory;
  InodeId parent = op.parent;
  std::string name = op.name;
  std::vector<NameChange> names{{op.parent, op.name, true, {}}};
  Result<MutationReply> reply = co_await mutate(std::move(op), std::move(names), {});
  if (!reply) co_return reply.error();
  InodeId made = reply->attributes.inode;
  bool leased = open ? leases_.granted_exclusive(made, reply->lease, !reply->locked_elsewhere)
                     : leases_.granted(made, reply->lease);
  if (directory && leased) names_.made_directory(reply->attributes);
  if (open) (void)writer_of(inode_state(reply->attributes));
  co_return entry_of(parent, name, reply->attributes);
}

Task<Result<Entry>> Mount::create(InodeId parent, std::string name, uint32_t mode, Caller caller) {
  CreateOp op;
  op.parent = parent;
  op.name = std::move(name);
  op.type = FileType::kRegular;
  op.mode = mode;
  op.uid = caller.uid;
  op.gid = caller.gid;
  op.open = true;
  Result<Entry> entry = co_await create_any(std::move(op));
  co_return entry;
}

Task<Result<Entry>> Mount::make_node(InodeId parent, std::string name, FileType type, uint32_t mode, uint32_t rdev,
                                     Caller caller) {
  CreateOp op;
  op.parent = parent;
  op.name = std::move(name);
  op.type = type;
  op.mode = mode;
  op.uid = caller.uid;
  op.gid = caller.gid;
  op.rdev = rdev;
  Result<Entry> entry = co_await create_any(std::move(op));
  co_return entry;
}

Task<Result<Entry>> Mount::make_directory(InodeId parent, std::string name, uint32_t mode, Caller caller) {
  Result<Entry> entry = co_await make_node(parent, std::move(name), FileType::kDirectory, mode, 0, caller);
  co_return entry;
}

Task<Result<Entry>> Mount::make_symlink(InodeId parent, std::string name, std::string target, Caller caller) {
  CreateOp op;
  op.parent = parent;
  op.name = std::move(name);
  op.type = FileType::kSymlink;
  op.mode = 0777;
  op.uid = caller.uid;
  op.gid = caller.gid;
  op.symlink_target = std::move(target);
  Result<Entry> entry = co_await create_any(std::move(op));
  co_return entry;
}

Task<Result<Entry>> Mount::link(InodeId inode, InodeId new_parent, std::string new_name) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed.error();
  std::string name = new_name;
  std::vector<NameChange> names{{new_parent, new_name, true, inode}};
  Result<MutationReply> reply =
      co_await mutate(LinkOp{inode, new_parent, std::move(new_name)}, std::move(names), inode);
  if (!reply) co_return reply.error();
  learn(reply->attributes, false);
  co_return entry_of(new_parent, name, reply->attributes);
}

// The last name of a file is gone.
void Mount::removed(const Attributes& attributes) {
  Inode* inode = find(attributes.inode);
  if (!inode || attributes.nlink > 0) return;
  learn(attributes, true);
  // Also by an open that is on its way: it may have been answered before the removal.
  if (inode->opens > 0 || opening_.contains(attributes.inode)) return;
  unpark(attributes.inode);
  inode->gone = true;
  if (inode->writer && known_here_only(*inode)) inode->writer->discard();
}

Task<Result<void>> Mount::unlink(InodeId parent, std::string name) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  std::vector<NameChange> names{{parent, name, false, {}}};
  Result<MutationReply> reply = co_await mutate(UnlinkOp{parent, std::move(name), {}}, std::move(names), {});
  if (!reply) co_return reply.error();
  removed(reply->attributes);
  co_return Result<void>();
}

Task<Result<void>> Mount::remove_directory(InodeId parent, std::string name) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  std::vector<NameChange> names{{parent, name, false, {}}};
  Result<MutationReply> reply = co_await mutate(RmdirOp{parent, std::move(name)}, std::move(names), {});
  if (!reply) co_return reply.error();
  co_return Result<void>();
}

Task<Result<void>> Mount::rename(InodeId parent, std::string name, InodeId new_parent, std::string new_name,
                                 uint32_t flags) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  if ((flags & ~(kRenameNoReplace | kRenameExchange)) != 0 || flags == (kRenameNoReplace | kRenameExchange)) {
    co_return Error(ErrorCode::kInvalid, "rename flags");
  }
  RenameOp op;
  op.parent = parent;
  op.name = std::move(name);
  op.new_parent = new_parent;
  op.new_name = std::move(new_name);
  op.no_replace = (flags & kRenameNoReplace) != 0;
  op.exchange = (flags & kRenameExchange) != 0;
  bool exchange = op.exchange;
  std::vector<NameChange> names{{parent, op.name, exchange, {}}, {new_parent, op.new_name, true, {}}};
  std::vector<NameChange> both = names;
  Result<MutationReply> reply = co_await mutate(std::move(op), std::move(names), {});
  if (!reply) co_return reply.error();
  // Two names of one file both stay as they are.
  bool file = reply->attributes.type != FileType::kDirectory;
  if (exchange || (file && reply->attributes.nlink > 1)) {
    for (const NameChange& change : both)
      names_.forget_name(change.directory, change.name);
  }
  names_.forget_listing(reply->attributes.inode);  // ".." may be another one
  names_.forget_listing(reply->replaced.inode);
  if (reply->replaced.inode && !exchange) removed(reply->replaced);
  co_return Result<void>();
}

Task<Result<std::string>> Mount::read_link(InodeId inode) {
  const std::string* target = known(inode) ? names_.target(inode) : nullptr;
  if (target) co_return *target;
  ReadLinkRequest request;
  request.inode = inode;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  if (leases_.usable(inode)) names_.heard_target(inode, reply->target);  // it never changes
  co_return std::move(reply->target);
}

std::optional<FileSystem::Listing> Mount::known_listing(InodeId directory, uint64_t cookie, uint32_t count_max,
                                                        bool plus) {
  if (changing(directory) || !leases_.usable(directory)) return std::nullopt;
  std::optional<NameCache::Page> page = names_.page(directory, cookie, count_max);
  if (!page) return std::nullopt;
  size_t unknown = 0;
  for (DirectoryEntry& entry : page->entries) {
    if (!plus) break;
    if (const Attributes* attributes = known(entry.inode)) {
      entry.attributes = seen_here(*attributes);
    } else {
      ++unknown;
    }
  }
  // One answer with all attributes instead of a question for each of many.
  if (unknown > 1 + page->entries.size() / kListingUnknownPart) return std::nullopt;
  leases_.used(directory);
  return Listing{
      .entries = std::move(page->entries), .end = page->end, .parent = page->parent, .valid_for = left(directory)};
}

Task<Result<FileSystem::Listing>> Mount::read_directory(InodeId directory, uint64_t cookie, uint32_t count_max,
                                                        bool plus) {
  std::optional<Listing> known = known_listing(directory, cookie, count_max, plus);
  if (known) co_return std::move(*known);
  ReadDirectoryRequest request;
  request.directory = directory;
  request.cookie = cookie;
  request.count_max = count_max;
  request.plus = plus;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  bool leased = leases_.granted(directory, reply->lease);
  if (leased) names_.listed(cookie, *reply);
  hear(reply->directory, reply->lease);
  Lease of_entries = reply->lease;
  of_entries.duration_ms = 1;
  Listing listing;
  listing.end = reply->end;
  listing.parent = reply->parent;
  listing.entries = std::move(reply->entries);
  // All before anything is waited for: the leases are of the session that asked.
  for (const DirectoryEntry& entry : listing.entries) {
    if (entry.attributes) hear(*entry.attributes, entry.leased ? of_entries : Lease{});
  }
  for (DirectoryEntry& entry : listing.entries) {
    if (!entry.attributes) continue;
    co_await learn_and_forget_pages(*entry.attributes);
    entry.attributes = seen_here(*entry.attributes);
    // The kernel would believe them for as long as the lease lasts that the inode may have by then.
    bool mounted = !options_.mountpoint.empty();
    if (mounted && left_of(*entry.attributes) == Duration::zero()) entry.attributes.reset();
  }
  listing.valid_for = leased ? left(directory) : Duration::zero();
  co_return listing;
}

Task<Result<AttributesView>> Mount::get_attributes(InodeId inode) {
  if (is_gone(inode)) co_return Error(ErrorCode::kStale, "the file was removed");
  if (const Attributes* attributes = known(inode))
    co_return AttributesView{.attributes = seen_here(*attributes), .valid_for = left(inode)};
  GetAttributesRequest request;
  request.inode = inode;
  auto reply = co_await master_.ask(request);
  if (!reply) {
    names_.forget_attributes(inode);
    co_return reply.error();
  }
  hear(reply->attributes, reply->lease);
  co_await learn_and_forget_pages(reply->attributes);
  // Removed meanwhile, and what was not written yet is thrown away: so it never was. The kernel looks the name up
  // again.
  Inode* state = find(inode);
  bool open = state && (state->opens > 0 || opening_.contains(inode));
  if (is_gone(inode) || (reply->attributes.nlink == 0 && !open))
    co_return Error(ErrorCode::kStale, "the file was removed");
  Attributes seen = seen_here(reply->attributes);
  co_return AttributesView{.attributes = seen, .valid_for = left_of(seen)};
}

Task<Result<AttributesView>> Mount::set_attributes(InodeId inode, Changes changes) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed.error();
  Inode* state = find(inode);
  if (changes.size && *changes.size > kMaxFileSizeBytes) co_return Error(ErrorCode::kFileTooBig);
  if (changes.size && state && state->writer) {
    // The cut is made at the master: what was written before it goes first.
    ++state->operations;
    Result<void> synced = co_await state->writer->sync(false);
    --state->operations;
    if (!synced) co_return synced.error();
  }
  SetAttributesOp op;
  op.inode = inode;
  op.mode = changes.mode;
  op.uid = changes.uid;
  op.gid = changes.gid;
  op.size = changes.size;
  op.atime = changes.atime;
  op.mtime = changes.mtime;
  op.atime_now = changes.atime_now;
  op.mtime_now = changes.mtime_now;
  op.clear_set_id = changes.clear_set_id;
  Semaphore::Permit no_commits;
  std::optional<FileTime> written;
  state = find(inode);
  bool sets_mtime = changes.mtime || changes.mtime_now;
  if (sets_mtime && state && state->writer) {
    ++state->operations;
    no_commits = co_await state->writer->pause_commits();
    written = state->writer->set_time_aside();
    --state->operations;
  }
  if (state) ++state->operations;
  Result<MutationReply> reply = co_await mutate_inode(std::move(op), inode);
  if (state) --state->operations;
  if (written && state && state->writer) state->writer->time_is(reply ? reply->attributes.mtime : *written);
  if (!reply && state && state->writer && changes.size) state->writer->size_in_doubt();
  if (!reply) co_return reply.error();
  if (state && state->writer) {
    if (changes.size) state->writer->truncated(reply->attributes);
  }
  if (state && state->reader && changes.size) state->reader->forget_layout();
  learn(reply->attributes, true);  // the kernel cuts its own pages
  Attributes seen = seen_here(reply->attributes);
  co_return AttributesView{.attributes = seen, .valid_for = left_of(seen)};
}

Task<Result<std::vector<std::string>>> Mount::xattrs_of(InodeId inode) {
  const std::vector<std::string>* names = known(inode) ? names_.xattrs(inode) : nullptr;
  if (names) co_return *names;
  const Attributes* before = known(inode);
  uint64_t change = before ? before->change : 0;
  uint64_t recall = leases_.last_recall(inode);
  ListXattrRequest request;
  request.inode = inode;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  // The lease was held all the time.
  if (change && known(inode) && leases_.last_recall(inode) == recall) names_.heard_xattrs(inode, change, reply->names);
  co_return std::move(reply->names);
}

Task<Result<std::string>> Mount::get_xattr(InodeId inode, std::string name) {
  if (known(inode)) {
    // Most files have none, and programs ask for them again and again.
    Result<std::vector<std::string>> names = co_await xattrs_of(inode);
    if (!names) co_return names.error();
    if (std::ranges::find(*names, name) == names->end()) co_return Error(ErrorCode::kNoData);
  }
  GetXattrRequest request;
  request.inode = inode;
  request.name = std::move(name);
  auto reply = co_await master_.ask(std::move(request));
  if (!reply) co_return reply.error();
  co_return std::move(reply->value);
}

Task<Result<std::vector<std::string>>> Mount::list_xattr(InodeId inode) {
  Result<std::vector<std::string>> names = co_await xattrs_of(inode);
  co_return names;
}

Task<Result<void>> Mount::set_xattr(InodeId inode, std::string name, std::string value, bool create_only,
                                    bool replace_only) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  Result<MutationReply> reply =
      co_await mutate_inode(SetXattrOp{inode, std::move(name), std::move(value), create_only, replace_only}, inode);
  if (!reply) co_return reply.error();
  learn(reply->attributes, true);
  co_return Result<void>();
}

Task<Result<void>> Mount::remove_xattr(InodeId inode, std::string name) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  Result<MutationReply> reply = co_await mutate_inode(RemoveXattrOp{inode, std::move(name)}, inode);
  if (!reply) co_return reply.error();
  learn(reply->attributes, true);
  co_return Result<void>();
}

Task<Result<StatFsReply>> Mount::stat_fs(InodeId inode) {
  StatFsRequest request;
  request.inode = inode;
  auto reply = co_await master_.ask(request);
  co_return reply;
}

}  // namespace cairn
