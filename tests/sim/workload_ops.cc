// WorkloadRun: what the workers do.
#include <algorithm>
#include <utility>

#include "common/base/units.h"
#include "tests/sim/workload_run.h"

namespace cairn {

namespace {
// What was not answered may still happen for so long.
constexpr Duration kUnsureTime = 2s;

template <class T>
std::optional<Error> error_of(const Result<T>& result) {
  if (result) return std::nullopt;
  return result.error();
}

// The file as it was written to last is big: some of its writes cross the border of chunks.
uint64_t random_offset(Random& random, bool big, uint64_t size) {
  if (random.chance(1, 4)) return size;
  if (!big) return random.below(200 * kKiB);
  if (random.chance(2, 3)) return kChunkSizeBytes - 1 - random.below(20 * kKiB);
  return random.below(130 * kMiB);
}

uint64_t random_length(Random& random) {
  uint64_t drawn = random.below(20);
  if (drawn == 0) return 1 + random.below(kMiB);
  if (drawn < 4) return 1 + random.below(200 * kKiB);
  if (drawn < 8) return 4096 * (1 + random.below(8));
  return 1 + random.below(12 * kKiB);
}
}  // namespace

Task<void> sleep_on(World& world, Duration duration) {
  Promise<void> promise(world.executor());
  Clock::TimerId timer = world.clock().call_at(world.clock().now() + duration, [&promise] { promise.set({}); });
  Result<void> slept = co_await promise.future();
  if (!slept) world.clock().cancel(timer);
}

Task<void> WorkloadRun::work(Worker& worker) {
  FileSystem* fs = cluster_.file_system(worker.mount);
  World& world = cluster_.mount_node(worker.mount);
  while (worker.left > 0 && fs && !failed()) {
    --worker.left;
    co_await one(*fs, worker);
    co_await sleep_on(world, random_->chance(1, 3) ? some_time(400ms) : some_time(20ms));
  }
  worker.running = false;
}

Task<void> WorkloadRun::one(FileSystem& fs, Worker& worker) {
  Slot& slot = slots_[random_->below(slots_.size())];
  Slot& other = slots_[random_->below(slots_.size())];
  uint64_t drawn = random_->below(100);
  if (slot.busy) co_return;
  bool object_busy = slot.now && slot.now->busy;
  if (drawn < 5) {
    co_await do_create(fs, worker, slot, true);
  } else if (drawn < 15 || !slot.now) {
    co_await do_create(fs, worker, slot, false);
  } else if (object_busy) {
    co_return;
  } else if (drawn < 20) {
    co_await do_remove(fs, worker, slot);
  } else if (drawn < 28) {
    if (&slot == &other || other.busy || (other.now && other.now->busy)) co_return;
    co_await do_rename(fs, worker, slot, other);
  } else if (drawn < 34 || slot.now->directory) {
    co_await do_lookup(fs, worker, slot);
  } else {
    ObjectPtr object = slot.now;
    object->busy = true;
    worker.object = object;
    co_await on_file(fs, worker, object);
    object->busy = false;
    worker.object.reset();
  }
}

// ---------------------------------------------------------------- names

bool WorkloadRun::answered(const std::string& what, const std::optional<Error>& error) {
  if (!error) {
    tell(what + " ok");
    return true;
  }
  tell(what + ": " + error->message());
  ++result_.errors;
  bool of_the_world = error->code == ErrorCode::kIo || error->code >= ErrorCode::kTimeout;
  bool of_the_disk = error->code == ErrorCode::kNoSpace && may_be_full();
  if ((!rough_ || !of_the_world) && !of_the_disk) fail(what + " failed: " + error->message());
  return false;
}

bool WorkloadRun::end_names(Worker& worker, const std::string& what, std::optional<Error> error,
                            std::optional<ErrorCode> expected) {
  std::vector<Change> changes = std::exchange(worker.changes, {});
  bool done = false;
  if (expected && error && error->code == *expected) {
    tell(what + ": " + std::string(to_string(*expected)) + ", as it should");
  } else if (expected && !error) {
    fail(what + " succeeded, and should have failed with " + std::string(to_string(*expected)));
  } else if (answered(what, error)) {
    done = true;
  } else {
    unsure_names_.push_back(std::move(changes));  // their slots stay as they are until the end
    return false;
  }
  for (Change& change : changes) {
    if (done) {
      change.slot->now = change.after;
      change.slot->changed = cluster_.simulator().now();
      change.slot->changed_by = worker.mount;
    }
    change.slot->busy = false;
  }
  return done;
}

Task<void> WorkloadRun::do_create(FileSystem& fs, Worker& worker, Slot& slot, bool folder) {
  std::string what = "mount" + std::to_string(worker.mount) + (folder ? " mkdir " : " create ") + path(slot);
  Running running(*this, what);
  std::optional<ErrorCode> expected;
  if (slot.now) expected = ErrorCode::kExists;
  auto object = std::make_shared<Object>();
  object->number = next_object_++;
  object->directory = folder;
  object->changed = cluster_.simulator().now();
  slot.busy = true;
  worker.changes = {{.slot = &slot, .before = slot.now, .after = expected ? slot.now : object}};
  Result<Entry> made(ErrorCode::kIo);
  if (folder) {
    made = co_await fs.make_directory(folders_[slot.folder], slot.name, 0755, {});
  } else {
    made = co_await fs.create(folders_[slot.folder], slot.name, 0644, {});
  }
  if (made) {
    object->inode = made->attributes.inode;
    objects_.push_back(object);
  }
  if (!end_names(worker, what, error_of(made), expected) || folder) co_return;
  Result<FileSystem::HandleId> handle = fs.opened_by_create(object->inode, {.read = true, .write = true});
  if (!handle) {
    fail(what + ": no handle: " + handle.error().message());
    co_return;
  }
  object->open[worker.mount] = {.handle = *handle, .life = lives_[worker.mount]};
}

// What has no name any more may be read as long as it is open.
Task<void> WorkloadRun::drop_handle(FileSystem& fs, Worker& worker, ObjectPtr object) {
  Object::Open open = std::exchange(object->open[worker.mount], {});
  if (open.life != lives_[worker.mount]) co_return;
  bool readable = !object->unsure && may_use(*object, worker.mount) && object->model.current().size() > 0;
  if (readable) {
    std::string what = "mount" + std::to_string(worker.mount) + " read unlinked file" + std::to_string(object->number);
    Running running(*this, what);
    Result<Payload> data = co_await fs.read(open.handle, 0, 64 * kKiB);
    if (rough_ && data.failed_with(ErrorCode::kStale)) {
      tell(what + ": gone with the session that had it open");
    } else if (answered(what, error_of(data))) {
      std::optional<uint64_t> wrong = object->model.current().first_difference(0, flatten(*data).span());
      if (wrong && !may_be_lost(*object)) fail(what + ": wrong byte, " + object->model.describe(*wrong));
    }
  }
  co_await fs.release(open.handle);
}

Task<void> WorkloadRun::do_remove(FileSystem& fs, Worker& worker, Slot& slot) {
  ObjectPtr object = slot.now;
  bool as_folder = object->directory != random_->chance(1, 10);
  std::string what = "mount" + std::to_string(worker.mount) + (as_folder ? " rmdir " : " unlink ") + path(slot);
  {
    Running running(*this, what);
    std::optional<ErrorCode> expected;
    if (as_folder && !object->directory) expected = ErrorCode::kNotDirectory;
    if (!as_folder && object->directory) expected = ErrorCode::kIsDirectory;
    slot.busy = true;
    worker.changes = {{.slot = &slot, .before = object, .after = expected ? object : nullptr}};
    Result<void> removed;
    if (as_folder) {
      removed = co_await fs.remove_directory(folders_[slot.folder], slot.name);
    } else {
      removed = co_await fs.unlink(folders_[slot.folder], slot.name);
    }
    if (!end_names(worker, what, error_of(removed), expected)) co_return;
  }
  co_await drop_handle(fs, worker, object);
}

Task<void> WorkloadRun::do_rename(FileSystem& fs, Worker& worker, Slot& from, Slot& to) {
  ObjectPtr object = from.now;
  ObjectPtr replaced = to.now;
  std::string what = "mount" + std::to_string(worker.mount) + " rename " + path(from) + " " + path(to);
  {
    Running running(*this, what);
    std::optional<ErrorCode> expected;
    if (replaced && replaced->directory && !object->directory) expected = ErrorCode::kIsDirectory;
    if (replaced && !replaced->directory && object->directory) expected = ErrorCode::kNotDirectory;
    from.busy = to.busy = true;
    worker.changes = {{.slot = &from, .before = object, .after = expected ? object : nullptr},
                      {.slot = &to, .before = replaced, .after = expected ? replaced : object}};
    Result<void> renamed = co_await fs.rename(folders_[from.folder], from.name, folders_[to.folder], to.name, 0);
    if (!end_names(worker, what, error_of(renamed), expected) || !replaced) co_return;
  }
  co_await drop_handle(fs, worker, replaced);
}

Task<void> WorkloadRun::do_lookup(FileSystem& fs, Worker& worker, Slot& slot) {
  ObjectPtr object = slot.now;
  std::string what = "mount" + std::to_string(worker.mount) + " lookup " + path(slot);
  Running running(*this, what);
  slot.busy = object->busy = true;
  worker.changes = {{.slot = &slot, .before = object, .after = object}};
  worker.object = object;
  Result<Entry> entry = co_await fs.lookup(folders_[slot.folder], slot.name);
  worker.object.reset();
  object->busy = false;
  worker.changes.clear();
  slot.busy = false;
  if (!answered(what, error_of(entry))) co_return;
  if (entry->attributes.inode != object->inode) fail(what + ": another inode, " + to_string(entry->attributes.inode));
  bool known = !object->directory && !object->unsure && may_use(*object, worker.mount);
  if (known && !may_be_lost(*object) && entry->attributes.size != object->model.current().size())
    fail(what + ": size " + std::to_string(entry->attributes.size) + ", " + object->model.describe(0));
}

// ---------------------------------------------------------------- files

// What one mount has not yet made durable is nothing to others.
bool WorkloadRun::may_use(const Object& object, size_t mount) {
  if (object.owner == mount) return true;
  return object.model.clean();
}

Task<void> WorkloadRun::on_file(FileSystem& fs, Worker& worker, ObjectPtr object) {
  if (object->unsure) {
    if (cluster_.simulator().now() < object->changed + kUnsureTime) co_return;
    co_await drop_handle(fs, worker, object);
    std::string what = "mount" + std::to_string(worker.mount) + " settle file" + std::to_string(object->number);
    Result<void> settled = co_await settle_file(fs, object);
    if (answered(what, error_of(settled))) object->owner = worker.mount;
    co_return;
  }
  if (!may_use(*object, worker.mount)) co_return;
  uint64_t drawn = random_->below(100);
  if (drawn < 45) {
    co_await do_write(fs, worker, object);
  } else if (drawn < 70) {
    co_await do_read(fs, worker, object);
  } else if (drawn < 85) {
    co_await do_sync(fs, worker, object);
  } else if (drawn < 92) {
    co_await do_truncate(fs, worker, object);
  } else {
    co_await do_close(fs, worker, object);
  }
}

Task<Result<FileSystem::HandleId>> WorkloadRun::handle_of(FileSystem& fs, size_t mount, ObjectPtr object) {
  Object::Open& open = object->open[mount];
  if (open.handle != 0 && open.life == lives_[mount]) co_return open.handle;
  Result<FileSystem::Opened> opened = co_await fs.open(object->inode, {.read = true, .write = true});
  if (!opened) co_return opened.error();
  open = {.handle = opened->handle, .life = lives_[mount]};
  co_return opened->handle;
}

Task<void> WorkloadRun::do_write(FileSystem& fs, Worker& worker, ObjectPtr object) {
  uint64_t write = next_write_++;
  uint64_t offset = random_offset(*random_, object->number % 7 == 0, object->model.current().size());
  uint64_t length = random_length(*random_);
  std::string what = fmt::format("mount{} write file{} [{}, {}) number {}", worker.mount, object->number, offset,
                                 offset + length, write);
  Running running(*this, what);
  Result<FileSystem::HandleId> handle = co_await handle_of(fs, worker.mount, object);
  if (!handle) {
    answered(what, error_of(handle));
    co_return;
  }
  Buffer data = Buffer::allocate(length);
  for (uint64_t i = 0; i < length; ++i)
    data.mutable_span()[i] = model_byte(write, offset + i);
  object->owner = worker.mount;
  object->model.begin_write(offset, offset + length, write);
  Result<void> written = co_await fs.write(*handle, offset, std::move(data));
  object->changed = cluster_.simulator().now();
  if (answered(what, error_of(written))) {
    object->model.end_write();
  } else {
    object->unsure = true;
  }
}

Task<void> WorkloadRun::do_truncate(FileSystem& fs, Worker& worker, ObjectPtr object) {
  uint64_t size = object->model.current().size();
  size = random_->chance(1, 4) ? size + random_->below(100 * kKiB) : random_->below(size + 1);
  std::string what = fmt::format("mount{} truncate file{} {}", worker.mount, object->number, size);
  Running running(*this, what);
  object->owner = worker.mount;
  object->model.begin_truncate(size);
  FileSystem::Changes changes;
  changes.size = size;
  Result<AttributesView> cut = co_await fs.set_attributes(object->inode, changes);
  object->changed = cluster_.simulator().now();
  if (answered(what, error_of(cut))) {
    object->model.end_truncate();
    if (cut->attributes.size != size) fail(what + ": size " + std::to_string(cut->attributes.size));
  } else {
    object->unsure = true;
  }
}

Task<void> WorkloadRun::do_read(FileSystem& fs, Worker& worker, ObjectPtr object) {
  uint64_t size = object->model.current().size();
  uint64_t offset = random_->below(size + 1);
  if (size > kChunkSizeBytes && random_->chance(1, 2)) offset = kChunkSizeBytes - random_->below(64 * kKiB);
  uint64_t length = random_->chance(1, 3) ? 128 * kKiB : 1 + random_->below(16 * kKiB);
  std::string what = fmt::format("mount{} read file{} [{}, {})", worker.mount, object->number, offset, offset + length);
  Running running(*this, what);
  Result<FileSystem::HandleId> handle(ErrorCode::kIo);
  // Another mount wrote it: what is known here is told by open, as the kernel would.
  if (object->owner != worker.mount) co_await drop_handle(fs, worker, object);
  handle = co_await handle_of(fs, worker.mount, object);
  if (!handle) {
    answered(what, error_of(handle));
    co_return;
  }
  Result<Payload> data = co_await fs.read(*handle, offset, static_cast<uint32_t>(length));
  if (!answered(what, error_of(data))) co_return;
  if (may_be_lost(*object)) co_return;
  uint64_t expected = std::min(length, size > offset ? size - offset : 0);
  std::optional<uint64_t> wrong = object->model.current().first_difference(offset, flatten(*data).span());
  if (wrong) fail(what + ": wrong byte, " + object->model.describe(*wrong));
  if (payload_size(*data) != expected) {
    fail(what + ": " + std::to_string(payload_size(*data)) + " bytes, and should be " + std::to_string(expected) +
         "; " + object->model.describe(offset));
  }
}

Task<void> WorkloadRun::do_sync(FileSystem& fs, Worker& worker, ObjectPtr object) {
  std::string what = fmt::format("mount{} fsync file{}", worker.mount, object->number);
  if (object->owner != worker.mount) co_return;
  Running running(*this, what);
  Result<FileSystem::HandleId> handle = co_await handle_of(fs, worker.mount, object);
  std::optional<Error> error = error_of(handle);
  if (handle) {
    Result<void> synced = co_await fs.fsync(*handle, random_->chance(1, 3));
    error = error_of(synced);
  }
  object->changed = cluster_.simulator().now();
  if (answered(what, error)) {
    object->model.synced();
  } else {
    object->unsure = true;
  }
}

Task<void> WorkloadRun::do_close(FileSystem& fs, Worker& worker, ObjectPtr object) {
  Object::Open open = object->open[worker.mount];
  if (open.handle == 0 || open.life != lives_[worker.mount]) co_return;
  std::string what = fmt::format("mount{} close file{}", worker.mount, object->number);
  Running running(*this, what);
  Result<void> flushed = co_await fs.flush(open.handle);
  if (!answered(what, error_of(flushed))) object->unsure = true;
  object->open[worker.mount] = {};
  co_await fs.release(open.handle);
}

}  // namespace cairn
