// WorkloadRun: what is found after the faults, against what may be.
#include <algorithm>
#include <utility>

#include "common/base/units.h"
#include "fs/client/leader_finder.h"
#include "tests/sim/workload_run.h"

namespace cairn {

bool WorkloadRun::do_on(size_t mount, const std::string& what,
                        std::function<Task<Result<void>>(FileSystem&)> operation) {
  tell(what + " on mount" + std::to_string(mount));
  std::optional<Result<void>> done = cluster_.run<Result<void>>(mount, std::move(operation), 300s);
  if (!done) {
    std::string where;
    for (const auto& [number, running] : running_)
      where += ", in '" + running.first + "'";
    fail(what + " on mount" + std::to_string(mount) + " does not end" + where);
  } else if (!*done) {
    fail(what + " on mount" + std::to_string(mount) + ": " + done->error().context);
  }
  return !failed();
}

Task<Result<void>> WorkloadRun::make_folders(FileSystem& fs) {
  for (size_t folder = 0; folder <= slots_.back().folder; ++folder) {
    Result<Entry> made = co_await fs.make_directory(kRootInode, "d" + std::to_string(folder), 0755, {});
    if (!made) co_return made.error();
    folders_.push_back(made->attributes.inode);
  }
  co_return Result<void>();
}

// Each change that was not answered happened wholly or not at all.
Task<Result<void>> WorkloadRun::settle_names(FileSystem& fs, size_t mount) {
  // What a mount asked for that has died since may still wait at the master, until its request's time is over.
  if (!unsure_names_.empty()) co_await sleep_on(cluster_.mount_node(mount), kMasterAttempt + kMasterAttempt);
  for (std::vector<Change>& changes : unsure_names_) {
    bool before = true;
    bool after = true;
    std::string found;
    for (Change& change : changes) {
      Running running(*this, "lookup " + path(*change.slot));
      Result<Entry> entry = co_await fs.lookup(folders_[change.slot->folder], change.slot->name);
      if (!entry) co_return entry.error();
      InodeId inode = entry->attributes.inode;
      found += " " + path(*change.slot) + "=" + to_string(inode);
      before = before && inode == (change.before ? change.before->inode : InodeId{});
      bool is_new = change.after && !change.after->inode && inode && entry->attributes.size == 0;
      after = after && (is_new || inode == (change.after ? change.after->inode : InodeId{}));
      if (is_new && !(change.before && change.before->inode == inode)) {
        change.after->inode = inode;
        objects_.push_back(change.after);
      }
    }
    if (!before && !after)
      co_return Error(ErrorCode::kCorrupt, "an unanswered change is neither done nor undone:" + found);
    for (Change& change : changes) {
      change.slot->now = before ? change.before : change.after;
      change.slot->busy = false;
    }
  }
  unsure_names_.clear();
  co_return Result<void>();
}

Task<Result<void>> WorkloadRun::read_and_adopt(FileSystem& fs, FileSystem::HandleId handle, ObjectPtr object) {
  std::string name = "file" + std::to_string(object->number);
  Result<AttributesView> view = co_await fs.get_attributes(object->inode);
  if (!view) co_return view.error();
  uint64_t size = view->attributes.size;
  if (!object->model.size_is_possible(size))
    co_return Error(ErrorCode::kCorrupt,
                    name + ": size " + std::to_string(size) + " cannot be; " + object->model.describe(0));
  object->model.begin_adoption(size);
  std::vector<std::pair<uint64_t, uint64_t>> regions = object->model.regions(size);
  for (const auto& [begin, end] : regions) {
    for (uint64_t at = begin; at < end;) {
      Result<Payload> data = co_await fs.read(handle, at, static_cast<uint32_t>(std::min(end - at, kMiB)));
      if (!data) co_return data.error();
      Buffer bytes = flatten(*data);
      if (bytes.empty()) co_return Error(ErrorCode::kCorrupt, name + ": nothing is read at " + std::to_string(at));
      std::optional<uint64_t> wrong = object->model.adopt(at, bytes.span());
      if (wrong) {
        co_return Error(ErrorCode::kCorrupt,
                        fmt::format("{}: byte {:02x} cannot be; {}", name,
                                    static_cast<unsigned>(bytes.span()[*wrong - at]), object->model.describe(*wrong)));
      }
      at += bytes.size();
    }
  }
  object->model.end_adoption();
  co_return Result<void>();
}

// A write of one byte takes the lease, and so waits for whoever had it; then what is there is the truth.
Task<Result<void>> WorkloadRun::settle_file(FileSystem& fs, ObjectPtr object) {
  Running running(*this, "settle file" + std::to_string(object->number));
  Result<FileSystem::Opened> opened = co_await fs.open(object->inode, {.read = true, .write = true});
  if (!opened) co_return opened.error();
  uint64_t write = next_write_++;
  Buffer byte = Buffer::allocate(1);
  byte.mutable_span()[0] = model_byte(write, 0);
  object->model.begin_write(0, 1, write, true);
  Result<void> done = co_await fs.write(opened->handle, 0, std::move(byte));
  if (done) done = co_await fs.fsync(opened->handle, false);
  if (done) done = co_await read_and_adopt(fs, opened->handle, object);
  if (done) object->unsure = false;
  object->changed = cluster_.simulator().now();
  co_await fs.release(opened->handle);
  co_return done;
}

Task<Result<void>> WorkloadRun::settle_all(FileSystem& fs, size_t mount) {
  for (const ObjectPtr& object : std::vector<ObjectPtr>(objects_)) {
    bool named = std::ranges::any_of(slots_, [&](const Slot& slot) { return slot.now == object; });
    if (!named || object->directory || object->unsure || object->owner != mount || object->model.clean()) continue;
    std::string what = "last fsync of file" + std::to_string(object->number);
    Running running(*this, what);
    Result<FileSystem::HandleId> handle = co_await handle_of(fs, mount, object);
    if (!handle) co_return handle.error();
    Result<void> synced = co_await fs.fsync(*handle, false);
    std::optional<Error> error;
    if (!synced) error = synced.error();
    if (answered(what, error)) {
      object->model.synced();
    } else {
      object->unsure = true;
    }
  }
  if (mount != 0) co_return Result<void>();
  Result<void> settled = co_await settle_names(fs, mount);
  if (!settled) co_return settled;
  for (const Slot& slot : slots_) {
    if (!slot.now || slot.now->directory || !slot.now->unsure) continue;
    settled = co_await settle_file(fs, slot.now);
    if (!settled) co_return settled;
  }
  co_return Result<void>();
}

// ---------------------------------------------------------------- the last look

Task<Result<void>> WorkloadRun::verify_file(FileSystem& fs, ObjectPtr object, std::string name) {
  Running running(*this, "verify " + name);
  Result<FileSystem::Opened> opened = co_await fs.open(object->inode, {.read = true});
  if (!opened) co_return opened.error();
  const FileContent& content = object->model.current();
  uint64_t size = opened->attributes.size;
  if (size != content.size())
    co_return Error(ErrorCode::kCorrupt, name + ": size " + std::to_string(size) + "; " + object->model.describe(0));
  for (const auto& [begin, end] : object->model.regions(size)) {
    for (uint64_t at = begin; at < end;) {
      Result<Payload> data = co_await fs.read(opened->handle, at, static_cast<uint32_t>(std::min(end - at, kMiB)));
      if (!data) co_return data.error();
      Buffer bytes = flatten(*data);
      std::optional<uint64_t> wrong = content.first_difference(at, bytes.span());
      if (wrong) co_return Error(ErrorCode::kCorrupt, name + ": wrong byte, " + object->model.describe(*wrong));
      if (bytes.empty()) co_return Error(ErrorCode::kCorrupt, name + ": nothing is read at " + std::to_string(at));
      at += bytes.size();
    }
  }
  co_await fs.release(opened->handle);
  co_return Result<void>();
}

Task<Result<void>> WorkloadRun::verify_all(FileSystem& fs) {
  for (size_t folder = 0; folder < folders_.size(); ++folder) {
    std::map<std::string, InodeId> expected, found;
    for (const Slot& slot : slots_) {
      if (slot.folder == folder && slot.now) expected[slot.name] = slot.now->inode;
    }
    uint64_t cookie = 0;
    for (bool end = false; !end;) {
      Running running(*this, "list d" + std::to_string(folder));
      Result<FileSystem::Listing> listing = co_await fs.read_directory(folders_[folder], cookie, 3, true);
      if (!listing) co_return listing.error();
      end = listing->end;
      for (const DirectoryEntry& entry : listing->entries) {
        if (!found.emplace(entry.name, entry.inode).second)
          co_return Error(ErrorCode::kCorrupt, "d" + std::to_string(folder) + " lists " + entry.name + " twice");
        cookie = entry.cookie;
      }
      if (listing->entries.empty() && !end) co_return Error(ErrorCode::kCorrupt, "a listing without entries and end");
    }
    if (found != expected) {
      std::string text = "d" + std::to_string(folder) + " lists";
      for (const auto& [name, inode] : found)
        text += " " + name + "=" + to_string(inode);
      text += ", and should list";
      for (const auto& [name, inode] : expected)
        text += " " + name + "=" + to_string(inode);
      co_return Error(ErrorCode::kCorrupt, text);
    }
  }
  for (const Slot& slot : slots_) {
    if (!slot.now || slot.now->directory) continue;
    Result<void> verified =
        co_await verify_file(fs, slot.now, path(slot) + " (file" + std::to_string(slot.now->number) + ")");
    if (!verified) co_return verified;
  }
  co_return Result<void>();
}

}  // namespace cairn
