// SimKernel: names, attributes and the calls about them.
#include <algorithm>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/base/check.h"
#include "tests/support/sim_kernel_parts.h"

namespace cairn {

// ---------------------------------------------------------------- inodes and attributes

SimKernel::InodePtr SimKernel::find(uint64_t number) const {
  auto found = inodes_.find(number);
  if (found == inodes_.end()) return nullptr;
  // One whose last user is leaving at this moment is known no more.
  if (found->second == root_.get()) return root_;
  return found->second->weak_from_this().lock();
}

void SimKernel::evicted(Inode& inode) {
  if (closing_) return;
  auto found = inodes_.find(inode.number);
  if (found != inodes_.end() && found->second == &inode) inodes_.erase(found);
  ++evictions_;
  if (inode.lookups > 0) tell(FUSE_FORGET, inode.number, bytes_of(fuse_forget_in{.nlookup = inode.lookups}));
}

void SimKernel::set_attributes(Inode& inode, const fuse_attr& attributes, TimePoint until) {
  inode.version = ++version_;
  inode.attributes = attributes;
  inode.attributes_until = until;
}

void SimKernel::invalidate_attributes(Inode& inode) {
  inode.attributes_until = {};
}

void SimKernel::directory_changed(Inode& directory) {
  invalidate_attributes(directory);
}

// What an answer says of an inode, unless something newer has happened to it since `version`.
Task<void> SimKernel::change_attributes(InodePtr inode, fuse_attr attributes, TimePoint until, uint64_t version) {
  if ((version != 0 && inode->version > version) || inode->size_unstable) {
    ++inode->put_away;
    co_return;
  }
  set_attributes(*inode, attributes, until);
  uint64_t before = std::exchange(inode->size, attributes.size);
  if (!inode->directory() && before != attributes.size) co_await truncate_pages(inode, attributes.size);
}

Task<SimKernel::InodePtr> SimKernel::get_inode(fuse_attr attributes, uint64_t number, TimePoint until, uint64_t version,
                                               uint64_t evictions) {
  InodePtr inode = find(number);
  bool fresh = !inode;
  if (fresh) {
    inode = std::make_shared<Inode>(*this, number, world_.executor());
    inodes_[number] = inode.get();
    inode->attributes = attributes;
    inode->size = attributes.size;
    // It was here when the question was asked, perhaps, and what was said of it then has gone with it.
    if (evictions != evictions_) until = {};
  }
  ++inode->lookups;
  co_await change_attributes(inode, attributes, until, version);
  co_return inode;
}

Task<Sys<SimKernel::Stat>> SimKernel::get_attributes(InodePtr inode) {
  fuse_attr attributes = inode->attributes;
  attributes.size = inode->size;
  if (world_.clock().now() >= inode->attributes_until) {
    uint64_t version = version_;
    Answer answer = co_await ask(FUSE_GETATTR, inode->number, bytes_of(fuse_getattr_in{}));
    if (answer.error != 0) co_return Sys<Stat>{.error = answer.error};
    auto out = answer.as<fuse_attr_out>();
    attributes = out.attr;
    co_await change_attributes(inode, out.attr, until(out.attr_valid, out.attr_valid_nsec), version);
  }
  Stat stat{.inode = inode->number, .size = attributes.size, .mode = attributes.mode, .nlink = attributes.nlink};
  co_return Sys<Stat>{.value = stat};
}

// ---------------------------------------------------------------- names

SimKernel::DentryPtr SimKernel::add_name(const InodePtr& directory, const std::string& name, const InodePtr& inode,
                                         TimePoint until, uint64_t epoch) {
  // A directory has one name: it moves there.
  if (inode && inode->directory()) {
    InodePtr parent = inode->parent.lock();
    DentryPtr other = inode->dentry.lock();
    if (parent && other) {
      auto found = parent->names.find(other->name);
      if (found != parent->names.end() && found->second == other) parent->names.erase(found);
    }
  }
  auto dentry = std::make_shared<Dentry>(Dentry{.name = name, .inode = inode, .until = until, .epoch = epoch});
  directory->names[name] = dentry;
  if (inode && inode->directory()) {
    inode->parent = directory;
    inode->dentry = dentry;
  }
  return dentry;
}

// d_invalidate(): the name goes, and below a directory what nobody uses.
// By value: what it is given may be the very entry that goes.
void SimKernel::drop_name(InodePtr directory, DentryPtr dentry) {
  auto found = directory->names.find(dentry->name);
  if (found != directory->names.end() && found->second == dentry) directory->names.erase(found);
  if (dentry->inode && dentry->inode->directory()) prune(*dentry->inode);
}

void SimKernel::prune(Inode& directory) {
  std::vector<DentryPtr> dropped;
  for (auto at = directory.names.begin(); at != directory.names.end();) {
    const InodePtr& inode = at->second->inode;
    if (inode && inode->directory()) prune(*inode);
    bool used = inode && (inode->open() || !inode->names.empty());
    if (!used) dropped.push_back(at->second);
    at = used ? std::next(at) : directory.names.erase(at);
  }
}

// True if the name may be used. No lock is taken.
Task<Sys<bool>> SimKernel::revalidate(InodePtr directory, DentryPtr dentry, uint32_t look) {
  if (settings_.epoch && dentry->epoch < epoch_) co_return Sys<bool>{.value = false};
  bool asks = world_.clock().now() >= dentry->until || (look & (kRevalidate | kCreates)) != 0;
  if (!asks) co_return Sys<bool>{.value = true};
  InodePtr inode = dentry->inode;
  if (!inode) co_return Sys<bool>{.value = false};
  uint64_t version = version_;
  Answer answer = co_await ask(FUSE_LOOKUP, directory->number, with_name({}, dentry->name));
  auto out = answer.as<fuse_entry_out>();
  if (answer.error != 0 || out.nodeid == 0) {
    bool gone = answer.error == 0 || answer.error == ENOENT || answer.error == ESTALE;
    co_return Sys<bool>{.error = gone ? 0 : answer.error, .value = false};
  }
  if (out.nodeid != inode->number) {
    tell(FUSE_FORGET, out.nodeid, bytes_of(fuse_forget_in{.nlookup = 1}));
    co_return Sys<bool>{.value = false};
  }
  ++inode->lookups;
  co_await change_attributes(inode, out.attr, until(out.attr_valid, out.attr_valid_nsec), version);
  dentry->until = until(out.entry_valid, out.entry_valid_nsec);
  co_return Sys<bool>{.value = true};
}

// The directory's lock is held, one way or the other.
Task<Sys<SimKernel::InodePtr>> SimKernel::request_lookup(InodePtr directory, std::string name) {
  RwLock::Hold alone;
  if ((flags_ & FUSE_PARALLEL_DIROPS) == 0) alone = co_await RwLock::exclusive(directory->one_at_a_time);
  uint64_t version = version_;
  uint64_t epoch = epoch_;
  uint64_t evictions = evictions_;
  Answer answer = co_await ask(FUSE_LOOKUP, directory->number, with_name({}, name));
  auto out = answer.as<fuse_entry_out>();
  if (answer.error == ENOENT) co_return Sys<InodePtr>{.error = ENOENT};
  if (answer.error != 0) co_return Sys<InodePtr>{.error = answer.error};
  TimePoint name_until = until(out.entry_valid, out.entry_valid_nsec);
  if (out.nodeid == 0) {
    add_name(directory, name, nullptr, name_until, epoch);
    co_return Sys<InodePtr>{.error = ENOENT};
  }
  InodePtr inode =
      co_await get_inode(out.attr, out.nodeid, until(out.attr_valid, out.attr_valid_nsec), version, evictions);
  add_name(directory, name, inode, name_until, epoch);
  co_return Sys<InodePtr>{.value = inode};
}

// With the directory's lock.
Task<Sys<SimKernel::InodePtr>> SimKernel::look_up_locked(InodePtr directory, std::string name, uint32_t look) {
  for (;;) {
    while (directory->looked_up.contains(name))
      co_await directory->moved.wait();
    auto found = directory->names.find(name);
    if (found == directory->names.end()) break;
    DentryPtr dentry = found->second;
    Sys<bool> good = co_await revalidate(directory, dentry, look);
    if (!good) co_return Sys<InodePtr>{.error = good.error};
    if (good.value && !dentry->inode) co_return Sys<InodePtr>{.error = ENOENT};
    if (good.value) co_return Sys<InodePtr>{.value = dentry->inode};
    drop_name(directory, dentry);
  }
  directory->looked_up.insert(name);
  Sys<InodePtr> found = co_await request_lookup(directory, name);
  directory->looked_up.erase(name);
  directory->moved.notify_all();
  co_return found;
}

Task<Sys<SimKernel::InodePtr>> SimKernel::look_up(InodePtr directory, std::string name, uint32_t look) {
  auto found = directory->names.find(name);
  if (found != directory->names.end()) {
    DentryPtr dentry = found->second;
    bool evict = settings_.evicts_one_in != 0 && random_.chance(1, settings_.evicts_one_in) && dentry->inode &&
                 !dentry->inode->open();
    Sys<bool> good{.value = false};
    if (!evict) good = co_await revalidate(directory, dentry, look);
    if (!good) co_return Sys<InodePtr>{.error = good.error};
    if (good.value && dentry->inode) co_return Sys<InodePtr>{.value = dentry->inode};
    if (good.value) co_return Sys<InodePtr>{.error = ENOENT};
    drop_name(directory, dentry);
  }
  RwLock::Hold lock = co_await RwLock::shared(directory->lock);
  Sys<InodePtr> looked = co_await look_up_locked(directory, std::move(name), look);
  co_return looked;
}

// default_permissions: from attributes, which must be good.
Task<int> SimKernel::may_search(InodePtr directory) {
  Sys<Stat> known = co_await get_attributes(directory);
  co_return known.error;
}

Task<Sys<SimKernel::InodePtr>> SimKernel::walk(std::string path, uint32_t look) {
  InodePtr at = root_;
  for (size_t begin = 1; begin < path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    int denied = co_await may_search(at);
    if (denied != 0) co_return Sys<InodePtr>{.error = denied};
    Sys<InodePtr> next = co_await look_up(at, path.substr(begin, end - begin), look);
    if (!next) co_return next;
    at = next.value;
    begin = end + 1;
  }
  co_return Sys<InodePtr>{.value = at};
}

Task<SimKernel::Walk> SimKernel::walk_to_parent(std::string path, uint32_t look) {
  size_t slash = path.rfind('/');
  Sys<InodePtr> directory = co_await walk(path.substr(0, slash), look);
  if (!directory) co_return Walk{.error = directory.error};
  int denied = co_await may_search(directory.value);
  if (denied != 0) co_return Walk{.error = denied};
  co_return Walk{.directory = directory.value, .name = path.substr(slash + 1)};
}

// ---------------------------------------------------------------- calls; each is made once more after ESTALE

Task<Sys<SimKernel::Stat>> SimKernel::stat_once(std::string path, uint32_t look) {
  Sys<InodePtr> inode = co_await walk(std::move(path), look);
  if (!inode) co_return Sys<Stat>{.error = inode.error};
  Sys<Stat> stat = co_await get_attributes(inode.value);
  co_return stat;
}

Task<Sys<SimKernel::Stat>> SimKernel::stat(std::string path) {
  co_await pause();
  Sys<Stat> stat = co_await stat_once(path, 0);
  if (stat.error == ESTALE) stat = co_await stat_once(path, kRevalidate);
  co_return stat;
}

Task<Sys<SimKernel::Stat>> SimKernel::fstat(FilePtr file) {
  co_await pause();
  Sys<Stat> stat = co_await get_attributes(file->inode);
  co_return stat;
}

Task<Sys<SimKernel::FilePtr>> SimKernel::open_inode(InodePtr inode, int flags) {
  bool atomic = (flags_ & FUSE_ATOMIC_O_TRUNC) != 0;
  bool truncates = (flags & O_TRUNC) != 0;
  auto asked = static_cast<uint32_t>(flags & ~(O_CREAT | O_EXCL | (atomic ? 0 : O_TRUNC)));
  if (truncates && (flags & O_ACCMODE) == O_RDONLY) co_return Sys<FilePtr>{.error = EINVAL};
  if (inode->directory()) co_return Sys<FilePtr>{.error = EISDIR};
  ++inode->opens;
  Answer answer = co_await ask(FUSE_OPEN, inode->number, bytes_of(fuse_open_in{.flags = asked}));
  if (answer.error != 0) {
    --inode->opens;
    co_return Sys<FilePtr>{.error = answer.error};
  }
  auto out = answer.as<fuse_open_out>();
  auto file = std::make_shared<File>(
      File{.inode = inode, .handle = out.fh, .open_flags = out.open_flags, .flags = flags & ~O_TRUNC});
  if ((flags & O_ACCMODE) != O_RDONLY) inode->writers.push_back(file);
  if (truncates && atomic) {
    inode->version = ++version_;
    inode->size = 0;
    invalidate_attributes(*inode);
    co_await truncate_pages(inode, 0);
  } else if (truncates) {
    fuse_setattr_in cut{.valid = FATTR_SIZE | FATTR_FH, .fh = file->handle, .size = 0};
    int failed = co_await set_inode(inode, cut);
    if (failed != 0) {
      (void)co_await close(file);
      co_return Sys<FilePtr>{.error = failed};
    }
  }
  if ((out.open_flags & FOPEN_KEEP_CACHE) == 0 && !is_direct(file)) co_await drop_pages(inode, 0, UINT64_MAX);
  co_return Sys<FilePtr>{.value = file};
}

// With the directory's lock: CREATE.
Task<Sys<SimKernel::FilePtr>> SimKernel::create_locked(Walk at, int flags, uint32_t mode) {
  uint64_t epoch = epoch_;
  fuse_create_in create{.flags = static_cast<uint32_t>(flags), .mode = S_IFREG | mode, .umask = 022};
  Answer answer = co_await ask(FUSE_CREATE, at.directory->number, with_name(bytes_of(create), at.name));
  if (answer.error != 0) co_return Sys<FilePtr>{.error = answer.error};
  auto entry = answer.as<fuse_entry_out>();
  auto out = answer.as<fuse_open_out>(sizeof entry);
  // Believed whatever was said of the inode meanwhile.
  InodePtr inode =
      co_await get_inode(entry.attr, entry.nodeid, until(entry.attr_valid, entry.attr_valid_nsec), 0, evictions_);
  add_name(at.directory, at.name, inode, until(entry.entry_valid, entry.entry_valid_nsec), epoch);
  directory_changed(*at.directory);
  ++inode->opens;
  auto file = std::make_shared<File>(File{
      .inode = inode, .handle = out.fh, .open_flags = out.open_flags, .flags = flags & ~(O_TRUNC | O_CREAT | O_EXCL)});
  file->created = true;
  if ((flags & O_ACCMODE) != O_RDONLY) inode->writers.push_back(file);
  co_return Sys<FilePtr>{.value = file};
}

Task<Sys<SimKernel::FilePtr>> SimKernel::open_once(std::string path, int flags, uint32_t mode, uint32_t look) {
  if ((flags & O_CREAT) == 0) {
    Sys<InodePtr> inode = co_await walk(std::move(path), look);
    if (!inode) co_return Sys<FilePtr>{.error = inode.error};
    Sys<FilePtr> opened = co_await open_inode(inode.value, flags);
    co_return opened;
  }
  Walk at = co_await walk_to_parent(std::move(path), look);
  if (at.error != 0) co_return Sys<FilePtr>{.error = at.error};
  RwLock::Hold lock = co_await RwLock::exclusive(at.directory->lock);
  Sys<InodePtr> there = co_await look_up_locked(at.directory, at.name, look | kCreates);
  if (there.error == ENOENT) {
    Sys<FilePtr> created = co_await create_locked(std::move(at), flags, mode);
    co_return created;
  }
  if (!there) co_return Sys<FilePtr>{.error = there.error};
  lock.release();
  if ((flags & O_EXCL) != 0) co_return Sys<FilePtr>{.error = EEXIST};
  Sys<FilePtr> opened = co_await open_inode(there.value, flags);
  co_return opened;
}

Task<Sys<SimKernel::FilePtr>> SimKernel::open(std::string path, int flags, uint32_t mode) {
  co_await pause();
  Sys<FilePtr> opened = co_await open_once(path, flags, mode, 0);
  if (opened.error == ESTALE) opened = co_await open_once(path, flags, mode, kRevalidate);
  co_return opened;
}

// Takes in what MKDIR and LINK answer.
Task<int> SimKernel::made(Walk at, Answer answer, uint64_t epoch, uint64_t evictions) {
  if (answer.error != 0) co_return answer.error;
  auto entry = answer.as<fuse_entry_out>();
  InodePtr inode =
      co_await get_inode(entry.attr, entry.nodeid, until(entry.attr_valid, entry.attr_valid_nsec), 0, evictions);
  add_name(at.directory, at.name, inode, until(entry.entry_valid, entry.entry_valid_nsec), epoch);
  directory_changed(*at.directory);
  co_return 0;
}

Task<int> SimKernel::mkdir_once(std::string path, uint32_t mode, uint32_t look) {
  Walk at = co_await walk_to_parent(std::move(path), look);
  if (at.error != 0) co_return at.error;
  RwLock::Hold lock = co_await RwLock::exclusive(at.directory->lock);
  Sys<InodePtr> there = co_await look_up_locked(at.directory, at.name, look | kCreates);
  if (there) co_return EEXIST;
  if (there.error != ENOENT) co_return there.error;
  uint64_t epoch = epoch_;
  fuse_mkdir_in how{.mode = mode, .umask = 022};
  Answer answer = co_await ask(FUSE_MKDIR, at.directory->number, with_name(bytes_of(how), at.name));
  int failed = co_await made(std::move(at), std::move(answer), epoch, evictions_);
  co_return failed;
}

Task<int> SimKernel::mkdir(std::string path, uint32_t mode) {
  co_await pause();
  int failed = co_await mkdir_once(path, mode, 0);
  if (failed == ESTALE) failed = co_await mkdir_once(path, mode, kRevalidate);
  co_return failed;
}

Task<int> SimKernel::remove_once(std::string path, bool directory, uint32_t look) {
  Walk at = co_await walk_to_parent(std::move(path), look);
  if (at.error != 0) co_return at.error;
  RwLock::Hold lock = co_await RwLock::exclusive(at.directory->lock);
  Sys<InodePtr> there = co_await look_up_locked(at.directory, at.name, look);
  if (!there) co_return there.error;
  InodePtr inode = there.value;
  if (inode->directory() != directory) co_return directory ? ENOTDIR : EISDIR;
  RwLock::Hold child = co_await RwLock::exclusive(inode->lock);
  Answer answer = co_await ask(directory ? FUSE_RMDIR : FUSE_UNLINK, at.directory->number, with_name({}, at.name));
  auto found = at.directory->names.find(at.name);
  bool known = found != at.directory->names.end() && found->second->inode == inode;
  if (answer.error == 0) {
    inode->version = ++version_;
    invalidate_attributes(*inode);
    if (known) drop_name(at.directory, found->second);
    directory_changed(*at.directory);
  } else if (known && (answer.error == EINTR || answer.error == ENOENT)) {
    drop_name(at.directory, found->second);
  }
  co_return answer.error;
}

Task<int> SimKernel::unlink(std::string path) {
  co_await pause();
  int failed = co_await remove_once(path, false, 0);
  if (failed == ESTALE) failed = co_await remove_once(path, false, kRevalidate);
  co_return failed;
}

Task<int> SimKernel::rmdir(std::string path) {
  co_await pause();
  int failed = co_await remove_once(path, true, 0);
  if (failed == ESTALE) failed = co_await remove_once(path, true, kRevalidate);
  co_return failed;
}

// Files only are renamed over one another, and directories to names that are not there.
Task<int> SimKernel::rename_once(std::string from, std::string to, uint32_t look) {
  Walk source = co_await walk_to_parent(std::move(from), look);
  if (source.error != 0) co_return source.error;
  Walk target = co_await walk_to_parent(std::move(to), look);
  if (target.error != 0) co_return target.error;
  bool across = source.directory != target.directory;
  RwLock::Hold all;
  RwLock::Hold first;
  RwLock::Hold second;
  if (across) all = co_await RwLock::exclusive(renames_);
  bool swap = across && target.directory->number < source.directory->number;
  first = co_await RwLock::exclusive(swap ? target.directory->lock : source.directory->lock);
  if (across) second = co_await RwLock::exclusive(swap ? source.directory->lock : target.directory->lock);
  Sys<InodePtr> moved = co_await look_up_locked(source.directory, source.name, look);
  if (!moved) co_return moved.error;
  Sys<InodePtr> replaced = co_await look_up_locked(target.directory, target.name, look | kCreates);
  if (!replaced && replaced.error != ENOENT) co_return replaced.error;
  if (replaced && replaced.value == moved.value) co_return 0;
  if (replaced && replaced.value->directory()) co_return moved.value->directory() ? ENOTEMPTY : EISDIR;
  if (replaced && moved.value->directory()) co_return ENOTDIR;
  fuse_rename_in where{.newdir = target.directory->number};
  std::string names = with_name(with_name(bytes_of(where), source.name), target.name);
  Answer answer = co_await ask(FUSE_RENAME, source.directory->number, std::move(names));
  auto old = source.directory->names.find(source.name);
  bool known = old != source.directory->names.end() && old->second->inode == moved.value;
  if (answer.error != 0) {
    if (known && (answer.error == EINTR || answer.error == ENOENT)) drop_name(source.directory, old->second);
    co_return answer.error;
  }
  invalidate_attributes(*moved.value);
  directory_changed(*source.directory);
  directory_changed(*target.directory);
  if (replaced) {
    replaced.value->version = ++version_;
    invalidate_attributes(*replaced.value);
  }
  target.directory->names.erase(target.name);
  if (known) {  // with the time that its old place gave it
    DentryPtr dentry = old->second;
    source.directory->names.erase(old);
    add_name(target.directory, target.name, moved.value, dentry->until, dentry->epoch);
  }
  co_return 0;
}

Task<int> SimKernel::rename(std::string from, std::string to) {
  co_await pause();
  int failed = co_await rename_once(from, to, 0);
  if (failed == ESTALE) failed = co_await rename_once(from, to, kRevalidate);
  co_return failed;
}

Task<int> SimKernel::link_once(std::string from, std::string to, uint32_t look) {
  Sys<InodePtr> inode = co_await walk(std::move(from), look);
  if (!inode) co_return inode.error;
  Walk at = co_await walk_to_parent(std::move(to), look);
  if (at.error != 0) co_return at.error;
  RwLock::Hold lock = co_await RwLock::exclusive(at.directory->lock);
  Sys<InodePtr> there = co_await look_up_locked(at.directory, at.name, look | kCreates);
  if (there) co_return EEXIST;
  if (there.error != ENOENT) co_return there.error;
  if (inode.value->directory()) co_return EPERM;
  RwLock::Hold child = co_await RwLock::exclusive(inode.value->lock);
  uint64_t epoch = epoch_;
  fuse_link_in what{.oldnodeid = inode.value->number};
  Answer answer = co_await ask(FUSE_LINK, at.directory->number, with_name(bytes_of(what), at.name));
  int failed = co_await made(std::move(at), std::move(answer), epoch, evictions_);
  co_return failed;
}

Task<int> SimKernel::link(std::string from, std::string to) {
  co_await pause();
  int failed = co_await link_once(from, to, 0);
  if (failed == ESTALE) failed = co_await link_once(from, to, kRevalidate);
  co_return failed;
}

Task<int> SimKernel::set_inode(InodePtr inode, fuse_setattr_in what) {
  RwLock::Hold lock = co_await RwLock::exclusive(inode->lock);
  bool cut = (what.valid & FATTR_SIZE) != 0;
  if (cut) inode->size_unstable = true;
  uint64_t version = version_;
  Answer answer = co_await ask(FUSE_SETATTR, inode->number, bytes_of(what));
  if (cut) inode->size_unstable = false;
  if (answer.error != 0) co_return answer.error;
  auto out = answer.as<fuse_attr_out>();
  TimePoint good_until = until(out.attr_valid, out.attr_valid_nsec);
  if (settings_.checks_setattr && inode->version > version) good_until = {};
  set_attributes(*inode, out.attr, good_until);
  uint64_t before = std::exchange(inode->size, out.attr.size);
  if (!inode->directory() && before != out.attr.size) {
    co_await truncate_pages(inode, out.attr.size);
    co_await drop_pages(inode, 0, UINT64_MAX);
  }
  co_return 0;
}

Task<int> SimKernel::set_once(std::string path, fuse_setattr_in what, uint32_t look) {
  Sys<InodePtr> inode = co_await walk(std::move(path), look);
  if (!inode) co_return inode.error;
  int failed = co_await set_inode(inode.value, what);
  co_return failed;
}

Task<int> SimKernel::chmod(std::string path, uint32_t mode) {
  co_await pause();
  fuse_setattr_in what{.valid = FATTR_MODE, .mode = mode};
  int failed = co_await set_once(path, what, 0);
  if (failed == ESTALE) failed = co_await set_once(path, what, kRevalidate);
  co_return failed;
}

Task<int> SimKernel::truncate(std::string path, uint64_t size) {
  co_await pause();
  fuse_setattr_in what{.valid = FATTR_SIZE, .size = size};
  int failed = co_await set_once(path, what, 0);
  if (failed == ESTALE) failed = co_await set_once(path, what, kRevalidate);
  co_return failed;
}

Task<int> SimKernel::ftruncate(FilePtr file, uint64_t size) {
  co_await pause();
  fuse_setattr_in what{.valid = FATTR_SIZE | FATTR_FH, .fh = file->handle, .size = size};
  int failed = co_await set_inode(file->inode, what);
  co_return failed;
}

// ---------------------------------------------------------------- listings

// With the directory's lock: what an answer says becomes names and inodes as if they had been looked up now.
Task<void> SimKernel::take_listing(InodePtr directory, std::string body, uint64_t version, uint64_t evictions,
                                   std::shared_ptr<Listing> listing, std::shared_ptr<uint64_t> offset, bool plus) {
  uint64_t epoch = epoch_;  // of now, not of the question
  size_t head = plus ? sizeof(fuse_entry_out) : 0;
  for (size_t at = 0; at + head + sizeof(fuse_dirent) <= body.size();) {
    fuse_entry_out entry{};
    fuse_dirent one{};
    if (plus) std::memcpy(&entry, body.data() + at, sizeof entry);
    std::memcpy(&one, body.data() + at + head, sizeof one);
    std::string name(body.data() + at + head + offsetof(fuse_dirent, name), one.namelen);
    at += (head + offsetof(fuse_dirent, name) + one.namelen + 7) / 8 * 8;
    *offset = one.off;
    if (name == "." || name == "..") continue;
    listing->emplace_back(name, one.ino);
    if (!plus || entry.nodeid == 0) continue;
    while (directory->looked_up.contains(name))
      co_await directory->moved.wait();
    TimePoint good_until = until(entry.attr_valid, entry.attr_valid_nsec);
    auto found = directory->names.find(name);
    if (found != directory->names.end() && (!found->second->inode || found->second->inode->number != entry.nodeid)) {
      drop_name(directory, found->second);
      found = directory->names.end();
    }
    if (found != directory->names.end()) {
      DentryPtr dentry = found->second;
      InodePtr inode = dentry->inode;
      ++inode->lookups;
      co_await change_attributes(inode, entry.attr, good_until, version);
      dentry->until = until(entry.entry_valid, entry.entry_valid_nsec);
      dentry->epoch = epoch;
      continue;
    }
    InodePtr inode = co_await get_inode(entry.attr, entry.nodeid, good_until, version, evictions);
    add_name(directory, name, inode, until(entry.entry_valid, entry.entry_valid_nsec), epoch);
  }
}

Task<Sys<SimKernel::Listing>> SimKernel::list_once(std::string path, uint32_t look) {
  Sys<InodePtr> walked = co_await walk(std::move(path), look);
  if (!walked) co_return Sys<Listing>{.error = walked.error};
  InodePtr directory = walked.value;
  Answer opened = co_await ask(FUSE_OPENDIR, directory->number, bytes_of(fuse_open_in{}));
  if (opened.error != 0) co_return Sys<Listing>{.error = opened.error};
  uint64_t handle = opened.as<fuse_open_out>().fh;
  auto listing = std::make_shared<Listing>();
  auto offset = std::make_shared<uint64_t>(0);
  int failed = 0;
  for (bool end = false; !end && failed == 0;) {
    RwLock::Hold lock = co_await RwLock::shared(directory->lock);
    RwLock::Hold alone;
    if ((flags_ & FUSE_PARALLEL_DIROPS) == 0) alone = co_await RwLock::exclusive(directory->one_at_a_time);
    bool plus = (flags_ & FUSE_DO_READDIRPLUS) != 0 && (*offset == 0 || random_.chance(1, 2));
    uint64_t version = version_;
    uint64_t evictions = evictions_;
    fuse_read_in read{.fh = handle, .offset = *offset, .size = random_.chance(1, 4) ? 600u : 4096u};
    Answer answer = co_await ask(plus ? FUSE_READDIRPLUS : FUSE_READDIR, directory->number, bytes_of(read));
    alone.release();
    failed = answer.error;
    end = answer.body.empty();
    if (failed == 0)
      co_await take_listing(directory, std::move(answer.body), version, evictions, listing, offset, plus);
    lock.release();
    co_await pause();
  }
  tell(FUSE_RELEASEDIR, directory->number, bytes_of(fuse_release_in{.fh = handle}));
  co_return Sys<Listing>{.error = failed, .value = *listing};
}

Task<Sys<SimKernel::Listing>> SimKernel::list(std::string path) {
  co_await pause();
  Sys<Listing> listing = co_await list_once(path, 0);
  if (listing.error == ESTALE) listing = co_await list_once(path, kRevalidate);
  co_return listing;
}

}  // namespace cairn
