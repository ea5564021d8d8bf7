#include "tests/support/memory_file_system.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"

namespace cairn {

namespace {
constexpr uint64_t kBlock = 128 * kKiB;
constexpr uint32_t kNoReplace = 1, kExchange = 2;  // <linux/fs.h>: RENAME_*

// A block holds its first bytes, in whole pages; what lies beyond reads as zeros.
void grow(Buffer& block, uint64_t size) {
  if (block.size() >= size) return;
  Buffer larger = Buffer::zeros((size + 4095) / 4096 * 4096);
  if (!block.empty()) std::memcpy(larger.mutable_span().data(), block.data(), block.size());
  block = std::move(larger);
}

bool is_set_id_cleared_by(const Attributes& a) {
  return (a.mode & 04000) != 0 || ((a.mode & 02000) != 0 && (a.mode & 0010) != 0);
}
}  // namespace

MemoryFileSystem::MemoryFileSystem(World& world, MemoryFileSystemOptions options)
    : world_(world), options_(options), changed_(world.executor()), tasks_(world.executor(), world.clock()) {
  auto root = std::make_unique<Inode>();
  root->attributes = {.inode = kRootInode, .type = FileType::kDirectory, .mode = 0755, .nlink = 2};
  root->parent = kRootInode;
  touch(*root, true);
  inodes_.emplace(kRootInode, std::move(root));
}

MemoryFileSystem::~MemoryFileSystem() = default;

FileTime MemoryFileSystem::now() const {
  return world_.clock().wall().ns;
}

void MemoryFileSystem::touch(Inode& inode, bool content) {
  Attributes& a = inode.attributes;
  a.ctime = now();
  ++a.change;
  if (!content) return;
  a.mtime = a.ctime;
  ++a.data_change;
  if (a.btime == 0) a.btime = a.atime = a.ctime;
}

MemoryFileSystem::Inode* MemoryFileSystem::find(InodeId inode) {
  auto found = inodes_.find(inode);
  return found == inodes_.end() ? nullptr : found->second.get();
}

Result<MemoryFileSystem::Inode*> MemoryFileSystem::directory(InodeId inode) {
  Inode* found = find(inode);
  if (!found) return Error(ErrorCode::kStale);
  if (found->attributes.type != FileType::kDirectory) return Error(ErrorCode::kNotDirectory);
  return found;
}

Result<MemoryFileSystem::Inode::Named*> MemoryFileSystem::entry(InodeId parent, const std::string& name) {
  Result<Inode*> found = directory(parent);
  if (!found) return found.error();
  if (name.size() > kMaxNameBytes) return Error(ErrorCode::kNameTooLong);
  auto named = (*found)->entries.find(name);
  if (named == (*found)->entries.end()) return Error(ErrorCode::kNotFound);
  return &named->second;
}

Entry MemoryFileSystem::entry_of(const Inode& inode) const {
  return {.attributes = inode.attributes, .valid_for = options_.valid_for, .name_valid_for = options_.valid_for};
}

void MemoryFileSystem::add_name(Inode& parent, const std::string& name, Inode& inode) {
  uint64_t cookie = parent.next_cookie++;
  parent.entries[name] = {inode.attributes.inode, cookie};
  parent.by_cookie[cookie] = name;
  ++parent.attributes.size;
  if (inode.attributes.type == FileType::kDirectory) {
    ++parent.attributes.nlink;
    inode.parent = parent.attributes.inode;
  }
  touch(parent, true);
}

void MemoryFileSystem::remove_name(Inode& parent, const std::string& name) {
  auto named = parent.entries.find(name);
  Inode* inode = find(named->second.inode);
  parent.by_cookie.erase(named->second.cookie);
  parent.entries.erase(named);
  --parent.attributes.size;
  if (inode->attributes.type == FileType::kDirectory) --parent.attributes.nlink;
  touch(parent, true);
}

void MemoryFileSystem::drop_link(InodeId id) {
  Inode* inode = find(id);
  inode->attributes.nlink = inode->attributes.type == FileType::kDirectory ? 0 : inode->attributes.nlink - 1;
  touch(*inode, false);
  reap(id);
}

void MemoryFileSystem::reap(InodeId id) {
  Inode* inode = find(id);
  if (inode && inode->attributes.nlink == 0 && inode->opens == 0) inodes_.erase(id);
}

// ---------------------------------------------------------------- names

Task<Result<Entry>> MemoryFileSystem::lookup(InodeId parent, std::string name) {
  Result<Inode::Named*> named = entry(parent, name);
  if (named.failed_with(ErrorCode::kNotFound)) co_return Entry{};
  if (!named) co_return named.error();
  co_return entry_of(*find((*named)->inode));
}

Result<Entry> MemoryFileSystem::make(InodeId parent, std::string name, FileType type, uint32_t mode, uint32_t rdev,
                                     Caller caller) {
  Result<Inode::Named*> named = entry(parent, name);
  if (named) return Error(ErrorCode::kExists);
  if (!named.failed_with(ErrorCode::kNotFound)) return named.error();
  Inode& folder = *find(parent);
  auto inode = std::make_unique<Inode>();
  InodeId id(next_inode_++);
  uint32_t links = type == FileType::kDirectory ? 2 : 1;
  inode->attributes = {
      .inode = id, .type = type, .mode = mode, .uid = caller.uid, .gid = caller.gid, .nlink = links, .rdev = rdev};
  touch(*inode, true);
  add_name(folder, name, *inode);
  Entry made = entry_of(*inode);
  inodes_.emplace(id, std::move(inode));
  return made;
}

Task<Result<Entry>> MemoryFileSystem::create(InodeId parent, std::string name, uint32_t mode, Caller caller) {
  co_await change_may_begin(parent);
  co_return make(parent, std::move(name), FileType::kRegular, mode, 0, caller);
}

Task<Result<Entry>> MemoryFileSystem::make_node(InodeId parent, std::string name, FileType type, uint32_t mode,
                                                uint32_t rdev, Caller caller) {
  co_await change_may_begin(parent);
  co_return make(parent, std::move(name), type, mode, rdev, caller);
}

Task<Result<Entry>> MemoryFileSystem::make_directory(InodeId parent, std::string name, uint32_t mode, Caller caller) {
  co_await change_may_begin(parent);
  co_return make(parent, std::move(name), FileType::kDirectory, mode, 0, caller);
}

Task<Result<Entry>> MemoryFileSystem::make_symlink(InodeId parent, std::string name, std::string target,
                                                   Caller caller) {
  co_await change_may_begin(parent);
  Result<Entry> made = make(parent, std::move(name), FileType::kSymlink, 0777, 0, caller);
  if (!made) co_return made;
  Inode& inode = *find(made->attributes.inode);
  inode.attributes.size = target.size();
  inode.target = std::move(target);
  co_return entry_of(inode);
}

Task<Result<Entry>> MemoryFileSystem::link(InodeId id, InodeId new_parent, std::string new_name) {
  co_await change_may_begin(new_parent);
  Inode* inode = find(id);
  if (!inode || inode->attributes.nlink == 0) co_return Error(ErrorCode::kNotFound);
  if (inode->attributes.type == FileType::kDirectory) co_return Error(ErrorCode::kPermission);
  Result<Inode::Named*> named = entry(new_parent, new_name);
  if (named) co_return Error(ErrorCode::kExists);
  if (!named.failed_with(ErrorCode::kNotFound)) co_return named.error();
  ++inode->attributes.nlink;
  touch(*inode, false);
  add_name(*find(new_parent), new_name, *inode);
  co_return entry_of(*inode);
}

Task<Result<void>> MemoryFileSystem::unlink(InodeId parent, std::string name) {
  co_await change_may_begin(parent);
  Result<Inode::Named*> named = entry(parent, name);
  if (!named) co_return named.error();
  InodeId id = (*named)->inode;
  if (find(id)->attributes.type == FileType::kDirectory) co_return Error(ErrorCode::kIsDirectory);
  remove_name(*find(parent), name);
  drop_link(id);
  co_return Result<void>();
}

Task<Result<void>> MemoryFileSystem::remove_directory(InodeId parent, std::string name) {
  co_await change_may_begin(parent);
  Result<Inode::Named*> named = entry(parent, name);
  if (!named) co_return named.error();
  InodeId id = (*named)->inode;
  if (find(id)->attributes.type != FileType::kDirectory) co_return Error(ErrorCode::kNotDirectory);
  if (!find(id)->entries.empty()) co_return Error(ErrorCode::kNotEmpty);
  remove_name(*find(parent), name);
  drop_link(id);
  co_return Result<void>();
}

Task<Result<void>> MemoryFileSystem::rename(InodeId parent, std::string name, InodeId new_parent, std::string new_name,
                                            uint32_t flags) {
  co_await change_may_begin(parent);
  co_await change_may_begin(new_parent);
  Result<Inode::Named*> named = entry(parent, name);
  if (!named) co_return named.error();
  Inode& moved = *find((*named)->inode);
  Result<Inode::Named*> there = entry(new_parent, new_name);
  if (!there && !there.failed_with(ErrorCode::kNotFound)) co_return there.error();
  if (flags == kExchange) {
    if (!there) co_return there.error();
    Inode& other = *find((*there)->inode);
    remove_name(*find(parent), name);
    remove_name(*find(new_parent), new_name);
    add_name(*find(new_parent), new_name, moved);
    add_name(*find(parent), name, other);
    co_return Result<void>();
  }
  if (flags != 0 && flags != kNoReplace) co_return Error(ErrorCode::kInvalid);
  InodeId replaced;
  if (there) {
    if (flags == kNoReplace) co_return Error(ErrorCode::kExists);
    replaced = (*there)->inode;
    if (replaced == moved.attributes.inode) co_return Result<void>();
    Inode& other = *find(replaced);
    bool from_folder = moved.attributes.type == FileType::kDirectory;
    bool to_folder = other.attributes.type == FileType::kDirectory;
    if (from_folder && !to_folder) co_return Error(ErrorCode::kNotDirectory);
    if (!from_folder && to_folder) co_return Error(ErrorCode::kIsDirectory);
    if (!other.entries.empty()) co_return Error(ErrorCode::kNotEmpty);
    remove_name(*find(new_parent), new_name);
  }
  remove_name(*find(parent), name);
  add_name(*find(new_parent), new_name, moved);
  touch(moved, false);
  if (replaced) drop_link(replaced);
  co_return Result<void>();
}

Task<Result<std::string>> MemoryFileSystem::read_link(InodeId inode) {
  Inode* found = find(inode);
  if (!found || found->attributes.type != FileType::kSymlink) co_return Error(ErrorCode::kInvalid);
  co_return found->target;
}

Task<Result<FileSystem::Listing>> MemoryFileSystem::read_directory(InodeId id, uint64_t cookie, uint32_t count_max,
                                                                   bool plus) {
  Result<Inode*> folder = directory(id);
  if (!folder) co_return folder.error();
  Listing listing;
  listing.parent = (*folder)->parent;
  listing.valid_for = options_.valid_for;
  auto next = (*folder)->by_cookie.upper_bound(cookie);
  for (; next != (*folder)->by_cookie.end() && listing.entries.size() < count_max; ++next) {
    const Inode& inode = *find((*folder)->entries[next->second].inode);
    DirectoryEntry made{
        .name = next->second, .inode = inode.attributes.inode, .type = inode.attributes.type, .cookie = next->first};
    if (plus) made.attributes = inode.attributes;
    listing.entries.push_back(std::move(made));
  }
  listing.end = next == (*folder)->by_cookie.end();
  co_return listing;
}

// ---------------------------------------------------------------- attributes

Task<Result<AttributesView>> MemoryFileSystem::get_attributes(InodeId inode) {
  Inode* found = find(inode);
  if (!found) co_return Error(ErrorCode::kStale);
  co_return AttributesView{.attributes = found->attributes, .valid_for = options_.valid_for};
}

Task<Result<AttributesView>> MemoryFileSystem::set_attributes(InodeId inode, Changes changes) {
  Inode* found = find(inode);
  if (!found) co_return Error(ErrorCode::kStale);
  Attributes& a = found->attributes;
  if (changes.size) {
    if (a.type != FileType::kRegular) co_return Error(ErrorCode::kInvalid);
    resize(*found, *changes.size);
    touch(*found, true);
  }
  if (changes.mode) a.mode = *changes.mode;
  bool owner = changes.uid || changes.gid;
  if ((changes.clear_set_id || owner) && a.type == FileType::kRegular && is_set_id_cleared_by(a)) a.mode &= ~06000u;
  if (changes.uid) a.uid = *changes.uid;
  if (changes.gid) a.gid = *changes.gid;
  touch(*found, false);
  if (changes.atime) a.atime = *changes.atime;
  if (changes.mtime) a.mtime = *changes.mtime;
  if (changes.atime_now) a.atime = now();
  if (changes.mtime_now) a.mtime = now();
  co_return AttributesView{.attributes = a, .valid_for = options_.valid_for};
}

Task<Result<std::string>> MemoryFileSystem::get_xattr(InodeId inode, std::string name) {
  Inode* found = find(inode);
  if (!found) co_return Error(ErrorCode::kStale);
  auto value = found->xattrs.find(name);
  if (value == found->xattrs.end()) co_return Error(ErrorCode::kNoData);
  co_return value->second;
}

Task<Result<std::vector<std::string>>> MemoryFileSystem::list_xattr(InodeId inode) {
  Inode* found = find(inode);
  if (!found) co_return Error(ErrorCode::kStale);
  std::vector<std::string> names;
  for (auto& [name, value] : found->xattrs)
    names.push_back(name);
  co_return names;
}

Task<Result<void>> MemoryFileSystem::set_xattr(InodeId inode, std::string name, std::string value, bool create_only,
                                               bool replace_only) {
  Inode* found = find(inode);
  if (!found) co_return Error(ErrorCode::kStale);
  if (options_.controls) {
    Result<bool> order = co_await obey(name, value);
    if (!order) co_return order.error();
    if (*order) co_return Result<void>();
    found = find(inode);
    if (!found) co_return Error(ErrorCode::kStale);
  }
  bool there = found->xattrs.contains(name);
  if (there && create_only) co_return Error(ErrorCode::kExists);
  if (!there && replace_only) co_return Error(ErrorCode::kNoData);
  found->xattrs[name] = std::move(value);
  touch(*found, false);
  co_return Result<void>();
}

Task<Result<void>> MemoryFileSystem::remove_xattr(InodeId inode, std::string name) {
  Inode* found = find(inode);
  if (!found) co_return Error(ErrorCode::kStale);
  if (found->xattrs.erase(name) == 0) co_return Error(ErrorCode::kNoData);
  touch(*found, false);
  co_return Result<void>();
}

Task<Result<StatFsReply>> MemoryFileSystem::stat_fs(InodeId) {
  co_return StatFsReply{
      .total_bytes = 64 * kGiB, .free_bytes = 48 * kGiB, .inodes = inodes_.size(), .inodes_free = 1'000'000};
}

// ---------------------------------------------------------------- file data

Task<Result<FileSystem::Opened>> MemoryFileSystem::open(InodeId id, OpenFlagsFs flags) {
  Inode* inode = find(id);
  if (!inode) co_return Error(ErrorCode::kStale);
  if (flags.truncate && inode->attributes.size > 0) {
    resize(*inode, 0);
    touch(*inode, true);
  }
  Result<HandleId> handle = opened_by_create(id, flags);
  co_return Opened{.handle = *handle, .attributes = inode->attributes};
}

Result<FileSystem::HandleId> MemoryFileSystem::opened_by_create(InodeId id, OpenFlagsFs flags) {
  Inode* inode = find(id);
  CHECK(inode);
  ++inode->opens;
  handles_.emplace(next_handle_, Handle{id, flags});
  return next_handle_++;
}

void MemoryFileSystem::resize(Inode& inode, uint64_t size) {
  Attributes& a = inode.attributes;
  if (size < a.size) {
    inode.blocks.resize(std::min<size_t>(inode.blocks.size(), (size + kBlock - 1) / kBlock));
    uint64_t last = size / kBlock;
    if (last < inode.blocks.size() && inode.blocks[last].size() > size % kBlock) {
      auto rest = inode.blocks[last].mutable_span().subspan(size % kBlock);
      std::ranges::fill(rest, std::byte{});
    }
  }
  a.size = size;
}

void MemoryFileSystem::put(Inode& inode, uint64_t offset, const Buffer& data) {
  uint64_t end = offset + data.size();
  if (inode.blocks.size() * kBlock < end) inode.blocks.resize((end + kBlock - 1) / kBlock);
  for (uint64_t at = offset; at < end;) {
    Buffer& block = inode.blocks[at / kBlock];
    uint64_t within = at % kBlock;
    uint64_t count = std::min(end - at, kBlock - within);
    if (count == kBlock) {
      block = data.slice(at - offset, count);
    } else {
      grow(block, within + count);
      std::memcpy(block.mutable_span().data() + within, data.data() + (at - offset), count);
    }
    at += count;
  }
  Attributes& a = inode.attributes;
  a.size = std::max(a.size, end);
  a.allocated_bytes = inode.blocks.size() * kBlock;
  inode.unsynced_bytes += data.size();
  touch(inode, true);
}

Result<MemoryFileSystem::Inode*> MemoryFileSystem::writable(HandleId id) {
  auto handle = handles_.find(id);
  if (handle == handles_.end() || !handle->second.flags.write) return Error(ErrorCode::kBadHandle);
  return find(handle->second.inode);
}

Task<Result<Payload>> MemoryFileSystem::read(HandleId id, uint64_t offset, uint32_t size) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  InodeId wanted = handle->second.inode;
  co_await may_begin(&MemoryFileSystem::held_reads_, wanted);
  handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  Inode& inode = *find(wanted);
  uint64_t end = std::min<uint64_t>(inode.attributes.size, offset + size);
  Payload payload;
  for (uint64_t at = offset; at < end;) {
    uint64_t within = at % kBlock;
    uint64_t count = std::min(end - at, kBlock - within);
    uint64_t held = at / kBlock < inode.blocks.size() ? inode.blocks[at / kBlock].size() : 0;
    uint64_t there = held > within ? std::min(count, held - within) : 0;
    if (there > 0) payload.push_back(inode.blocks[at / kBlock].slice(within, there));
    if (there < count) payload.push_back(Buffer::zeros(count - there));
    at += count;
  }
  co_return payload;
}

Task<Result<void>> MemoryFileSystem::write(HandleId id, uint64_t offset, Buffer data) {
  if (handles_.contains(id)) co_await may_begin(&MemoryFileSystem::held_writes_, handles_.at(id).inode);
  Result<Inode*> inode = writable(id);
  if (!inode) co_return inode.error();
  if (offset + data.size() > 64 * kGiB) co_return Error(ErrorCode::kFileTooBig);
  put(**inode, offset, data);
  co_return Result<void>();
}

Task<Result<uint64_t>> MemoryFileSystem::append(HandleId id, Buffer data) {
  if (handles_.contains(id)) co_await may_begin(&MemoryFileSystem::held_writes_, handles_.at(id).inode);
  Result<Inode*> inode = writable(id);
  if (!inode) co_return inode.error();
  if (options_.appends_elsewhere) put(**inode, (*inode)->attributes.size, Buffer::copy_of("x"));
  uint64_t at = (*inode)->attributes.size;
  put(**inode, at, data);
  co_return at;
}

Task<Result<void>> MemoryFileSystem::flush(HandleId id) {
  if (!handles_.contains(id)) co_return Error(ErrorCode::kBadHandle);
  co_return Result<void>();
}

Task<Result<void>> MemoryFileSystem::fsync(HandleId id, bool) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  find(handle->second.inode)->unsynced_bytes = 0;
  co_return Result<void>();
}

Task<Result<void>> MemoryFileSystem::fsync_directory(InodeId) {
  co_return Result<void>();
}

Task<Result<void>> MemoryFileSystem::set_lock(HandleId id, FileLock lock, std::shared_ptr<LockWait> wait) {
  if (!handles_.contains(id)) co_return Error(ErrorCode::kBadHandle);
  InodeId inode = handles_.at(id).inode;
  if (wait) wait->when_given_up([this] { changed_.notify_all(); });
  while (locks_[inode].conflict(lock)) {
    if (!wait) co_return Error(ErrorCode::kAgain);
    if (!wait->given_up()) co_await changed_.wait();
    if (wait->given_up()) co_return Error(ErrorCode::kInterrupted);
  }
  Result<void> set = locks_[inode].set(lock);
  lock_users_[{id, lock.owner}] = inode;
  changed_.notify_all();
  co_return set;
}

Task<Result<std::optional<FileLock>>> MemoryFileSystem::test_lock(HandleId id, FileLock lock) {
  if (!handles_.contains(id)) co_return Error(ErrorCode::kBadHandle);
  co_return locks_[handles_.at(id).inode].conflict(lock);
}

Task<void> MemoryFileSystem::release_locks(HandleId id, uint64_t owner) {
  if (handles_.contains(id)) locks_[handles_.at(id).inode].release({SessionId(), owner});
  changed_.notify_all();
  co_return;
}

Task<void> MemoryFileSystem::release(HandleId id) {
  auto handle = handles_.find(id);
  CHECK(handle != handles_.end());
  std::erase_if(lock_users_, [&](const auto& used) {
    if (used.first.first == id) locks_[used.second].release({SessionId(), used.first.second});
    return used.first.first == id;
  });
  changed_.notify_all();
  InodeId inode = handle->second.inode;
  handles_.erase(handle);
  --find(inode)->opens;
  reap(inode);
  co_return;
}

void MemoryFileSystem::forget(InodeId) {}

Task<Result<void>> MemoryFileSystem::sync_all(TimePoint) {
  if (options_.never_durable) co_return Error(ErrorCode::kIo, "1 files are not on disk yet");
  for (auto& [id, inode] : inodes_)
    inode->unsynced_bytes = 0;
  co_return Result<void>();
}

std::vector<FileSystem::Unsynced> MemoryFileSystem::unsynced() const {
  std::vector<Unsynced> out;
  for (auto& [id, inode] : inodes_) {
    if (options_.never_durable && inode->unsynced_bytes > 0) out.push_back({id, inode->unsynced_bytes});
  }
  return out;
}

Task<Result<void>> MemoryFileSystem::close(TimePoint deadline) {
  co_await tasks_.stop();
  Result<void> synced = co_await sync_all(deadline);
  co_return synced;
}

// ---------------------------------------------------------------- orders, and what others do

Task<void> MemoryFileSystem::may_begin(InodeId MemoryFileSystem::* held, InodeId inode) {
  while (this->*held == inode)
    co_await changed_.wait();
  if (options_.takes == Duration::zero()) co_return;
  Result<void> slept = co_await tasks_.sleep_for(options_.takes);
  if (!slept) co_return;
}

Task<void> MemoryFileSystem::change_may_begin(InodeId directory) {
  co_await may_begin(&MemoryFileSystem::held_changes_, directory);
}

Task<Result<bool>> MemoryFileSystem::obey(std::string order, std::string value) {
  static const std::map<std::string, InodeId MemoryFileSystem::*> kHolds = {
      {"user.hold-reads", &MemoryFileSystem::held_reads_},
      {"user.hold-writes", &MemoryFileSystem::held_writes_},
      {"user.hold-changes", &MemoryFileSystem::held_changes_}};
  if (!order.starts_with("user.") || value.empty() || value[0] < '0' || value[0] > '9') co_return false;
  InodeId inode(std::stoull(value));
  std::string name = value.contains('/') ? value.substr(value.find('/') + 1) : std::string();
  auto hold = kHolds.find(order);
  if (hold != kHolds.end()) {
    this->*hold->second = inode;
    changed_.notify_all();
  } else if (order == "user.forget-pages") {
    co_await caches_->forget_pages(inode);
  } else if (order == "user.forget-everything") {
    co_await caches_->forget_everything();
  } else if (order == "user.storm") {
    co_await storm(std::chrono::milliseconds(inode.value));
  } else if (order == "user.elsewhere-write") {
    co_await caches_->forget_pages(inode);
    Inode* file = find(inode);
    if (!file) co_return Error(ErrorCode::kStale);
    for (Buffer& block : file->blocks) {
      for (std::byte& byte : block.mutable_span())
        byte = static_cast<std::byte>(static_cast<unsigned>(byte) + 1);
    }
    touch(*file, true);
  } else if (order == "user.elsewhere-chmod") {
    co_await caches_->forget_attributes(inode);
    Inode* file = find(inode);
    if (!file) co_return Error(ErrorCode::kStale);
    file->attributes.mode = 0600;
    touch(*file, false);
  } else if (order == "user.elsewhere-unlink") {
    co_await caches_->forget_name(inode, name);
    Result<Inode::Named*> named = entry(inode, name);
    if (!named) co_return named.error();
    InodeId id = (*named)->inode;
    remove_name(*find(inode), name);
    drop_link(id);
  } else if (order == "user.elsewhere-create") {
    co_await caches_->forget_name(inode, name);
    Result<Entry> made = make(inode, name, FileType::kRegular, 0644, 0, {});
    if (!made) co_return made.error();
  } else {
    co_return false;
  }
  co_return true;
}

Task<void> MemoryFileSystem::storm(Duration how_long) {
  constexpr size_t kAtOnce = 8;
  TimePoint end = world_.clock().now() + how_long;
  TaskGroup recalls(world_.executor(), world_.clock());
  while (world_.clock().now() < end && !tasks_.stop_requested()) {
    if (recalls.size() < kAtOnce) recalls.spawn(storm_once());
    Result<void> slept = co_await tasks_.sleep_for(std::chrono::milliseconds(1));
    if (!slept) break;
  }
  co_await recalls.stop();
}

Task<void> MemoryFileSystem::storm_once() {
  auto any = [this](size_t count) { return static_cast<ptrdiff_t>(world_.random().next_u64() % count); };
  auto inode = std::next(inodes_.begin(), any(inodes_.size()));
  InodeId id = inode->first;
  std::string name = "none";
  const std::map<std::string, Inode::Named>& entries = inode->second->entries;
  if (!entries.empty()) name = std::next(entries.begin(), any(entries.size()))->first;
  // Rarely, because it drops everything that the others could meet.
  ptrdiff_t what = any(100);
  if (what == 0) {
    co_await caches_->forget_everything();
  } else if (inode->second->attributes.type == FileType::kDirectory && what < 80) {
    co_await caches_->forget_name(id, std::move(name));
  } else if (what < 70) {
    co_await caches_->forget_pages(id);
  } else {
    co_await caches_->forget_attributes(id);
  }
}

size_t MemoryFileSystem::leaked_inodes() const {
  return static_cast<size_t>(std::ranges::count_if(inodes_, [](auto& item) {
    return item.first != kRootInode && item.second->attributes.nlink == 0 && item.second->opens == 0;
  }));
}

}  // namespace cairn
