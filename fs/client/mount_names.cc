// Mount: names and attributes, each a question to the master.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "fs/client/mount.h"

namespace cairn {

namespace {
constexpr uint32_t kRenameNoReplace = 1;  // <linux/fs.h>: RENAME_NOREPLACE, RENAME_EXCHANGE
constexpr uint32_t kRenameExchange = 2;
}  // namespace

Result<void> Mount::writable() const {
  if (options_.read_only) return Error(ErrorCode::kReadOnly);
  return {};
}

Duration Mount::left_of(TimePoint asked, const Lease& lease) const {
  TimePoint end = MasterLink::lease_end(asked, lease);
  TimePoint now = world_.clock().now();
  return end > now ? end - now : Duration::zero();
}

Entry Mount::entry_of(const Attributes& attributes, TimePoint asked, const Lease& lease) const {
  Duration left = left_of(asked, lease);
  return Entry{.attributes = seen_here(attributes), .valid_for = left, .name_valid_for = left};
}

Task<Result<MutationReply>> Mount::mutate(MetaOp op, std::vector<NameChange> names) {
  TimePoint asked = world_.clock().now();
  Result<MutationReply> reply = co_await master_.mutate(std::move(op));
  if (!reply) {
    // It may have happened all the same.
    for (const NameChange& change : names)
      names_.forget(change.directory);
    co_return reply;
  }
  auto changes_in = [&](InodeId directory) {
    return static_cast<uint64_t>(std::ranges::count(names, directory, &NameChange::directory));
  };
  TimePoint until = MasterLink::lease_end(asked, reply->parent_lease);
  bool two = reply->new_parent.inode && reply->new_parent.inode != reply->parent.inode;
  names_.changed(reply->parent, changes_in(reply->parent.inode));
  if (two) names_.changed(reply->new_parent, changes_in(reply->new_parent.inode));
  for (const NameChange& change : names) {
    if (change.there) {
      names_.added(change.directory, change.name);
    } else {
      names_.removed(change.directory, change.name);
    }
  }
  names_.heard(reply->parent, until);
  if (two) names_.heard(reply->new_parent, until);
  names_.heard(reply->attributes, MasterLink::lease_end(asked, reply->lease));
  if (reply->replaced.inode) names_.heard(reply->replaced, {});
  co_return reply;
}

Task<Result<Entry>> Mount::lookup(InodeId parent, std::string name) {
  TimePoint asked = world_.clock().now();
  if (names_.absent_until(parent, name, asked)) co_return Entry{};
  LookupRequest request;
  request.parent = parent;
  request.name = std::move(name);
  auto reply = co_await master_.ask(std::move(request));
  if (!reply) co_return reply.error();
  names_.heard(reply->parent, MasterLink::lease_end(asked, reply->parent_lease));
  if (reply->attributes.inode) names_.heard(reply->attributes, MasterLink::lease_end(asked, reply->lease));
  co_await learn_and_forget_pages(reply->attributes);
  co_return entry_of(reply->attributes, asked, reply->lease);
}

Task<Result<Entry>> Mount::create_any(CreateOp op) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed.error();
  TimePoint asked = world_.clock().now();
  bool open = op.open;
  bool directory = op.type == FileType::kDirectory;
  std::vector<NameChange> names{{op.parent, op.name, true}};
  Result<MutationReply> reply = co_await mutate(std::move(op), std::move(names));
  if (!reply) co_return reply.error();
  if (directory) names_.made_directory(reply->attributes);
  if (open) {
    Inode& inode = inode_state(reply->attributes);
    writer_of(inode).created(MasterLink::lease_end(asked, reply->lease));
  }
  co_return entry_of(reply->attributes, asked, reply->lease);
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
  TimePoint asked = world_.clock().now();
  std::vector<NameChange> names{{new_parent, new_name, true}};
  Result<MutationReply> reply = co_await mutate(LinkOp{inode, new_parent, std::move(new_name)}, std::move(names));
  if (!reply) co_return reply.error();
  learn(reply->attributes, false);
  co_return entry_of(reply->attributes, asked, reply->lease);
}

// The last name of a file is gone.
void Mount::removed(const Attributes& attributes) {
  Inode* inode = find(attributes.inode);
  if (!inode || attributes.nlink > 0) return;
  learn(attributes, true);
  if (inode->opens == 0 && inode->writer) inode->writer->discard();
}

Task<Result<void>> Mount::unlink(InodeId parent, std::string name) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  std::vector<NameChange> names{{parent, name, false}};
  Result<MutationReply> reply = co_await mutate(UnlinkOp{parent, std::move(name), {}}, std::move(names));
  if (!reply) co_return reply.error();
  removed(reply->attributes);
  co_return Result<void>();
}

Task<Result<void>> Mount::remove_directory(InodeId parent, std::string name) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  std::vector<NameChange> names{{parent, name, false}};
  Result<MutationReply> reply = co_await mutate(RmdirOp{parent, std::move(name)}, std::move(names));
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
  std::vector<NameChange> names{{parent, op.name, exchange}, {new_parent, op.new_name, true}};
  Result<MutationReply> reply = co_await mutate(std::move(op), std::move(names));
  if (!reply) co_return reply.error();
  if (reply->replaced.inode && !exchange) removed(reply->replaced);
  co_return Result<void>();
}

Task<Result<std::string>> Mount::read_link(InodeId inode) {
  ReadLinkRequest request;
  request.inode = inode;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  co_return std::move(reply->target);
}

Task<Result<FileSystem::Listing>> Mount::read_directory(InodeId directory, uint64_t cookie, uint32_t count_max,
                                                        bool plus) {
  TimePoint asked = world_.clock().now();
  ReadDirectoryRequest request;
  request.directory = directory;
  request.cookie = cookie;
  request.count_max = count_max;
  request.plus = plus;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  Listing listing;
  listing.end = reply->end;
  listing.parent = reply->parent;
  listing.entries = std::move(reply->entries);
  for (DirectoryEntry& entry : listing.entries) {
    if (!entry.attributes) continue;
    co_await learn_and_forget_pages(*entry.attributes);
    entry.attributes = seen_here(*entry.attributes);
  }
  listing.valid_for = left_of(asked, reply->lease);
  co_return listing;
}

Task<Result<AttributesView>> Mount::get_attributes(InodeId inode) {
  TimePoint asked = world_.clock().now();
  if (std::optional<NameCache::Known> known = names_.attributes(inode, asked)) {
    co_return AttributesView{.attributes = seen_here(known->attributes), .valid_for = known->until - asked};
  }
  GetAttributesRequest request;
  request.inode = inode;
  auto reply = co_await master_.ask(request);
  if (!reply) {
    names_.forget(inode);
    co_return reply.error();
  }
  names_.heard(reply->attributes, MasterLink::lease_end(asked, reply->lease));
  co_await learn_and_forget_pages(reply->attributes);
  co_return AttributesView{.attributes = seen_here(reply->attributes), .valid_for = left_of(asked, reply->lease)};
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
  state = find(inode);
  bool sets_mtime = changes.mtime || changes.mtime_now;
  if (sets_mtime && state && state->writer) {
    ++state->operations;
    no_commits = co_await state->writer->pause_commits();
    state->writer->mtime_is_set();
    --state->operations;
  }
  TimePoint asked = world_.clock().now();
  if (state) ++state->operations;
  Result<MutationReply> reply = co_await master_.mutate(std::move(op));
  if (state) --state->operations;
  if (!reply) {
    names_.forget(inode);  // it may have happened all the same
    co_return reply.error();
  }
  names_.changed(reply->attributes, 1);
  names_.heard(reply->attributes, MasterLink::lease_end(asked, reply->lease));
  if (state && state->writer) {
    if (changes.size) state->writer->truncated(reply->attributes);
  }
  if (state && state->reader && changes.size) state->reader->forget_layout();
  learn(reply->attributes, true);  // the kernel cuts its own pages
  co_return AttributesView{.attributes = seen_here(reply->attributes), .valid_for = left_of(asked, reply->lease)};
}

Task<Result<std::string>> Mount::get_xattr(InodeId inode, std::string name) {
  GetXattrRequest request;
  request.inode = inode;
  request.name = std::move(name);
  auto reply = co_await master_.ask(std::move(request));
  if (!reply) co_return reply.error();
  co_return std::move(reply->value);
}

Task<Result<std::vector<std::string>>> Mount::list_xattr(InodeId inode) {
  ListXattrRequest request;
  request.inode = inode;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  co_return std::move(reply->names);
}

Task<Result<void>> Mount::set_xattr(InodeId inode, std::string name, std::string value, bool create_only,
                                    bool replace_only) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  Result<MutationReply> reply =
      co_await master_.mutate(SetXattrOp{inode, std::move(name), std::move(value), create_only, replace_only});
  if (!reply) {
    names_.forget(inode);
    co_return reply.error();
  }
  learn(reply->attributes, true);
  co_return Result<void>();
}

Task<Result<void>> Mount::remove_xattr(InodeId inode, std::string name) {
  Result<void> allowed = writable();
  if (!allowed) co_return allowed;
  Result<MutationReply> reply = co_await master_.mutate(RemoveXattrOp{inode, std::move(name)});
  if (!reply) {
    names_.forget(inode);
    co_return reply.error();
  }
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
