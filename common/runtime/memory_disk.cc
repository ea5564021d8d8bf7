#include "common/runtime/memory_disk.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/memory_disk_nodes.h"

namespace cairn {

namespace {

Result<std::vector<std::string>> parts_of(const std::string& path) {
  std::vector<std::string> parts;
  size_t start = 0;
  while (start <= path.size()) {
    size_t end = std::min(path.find('/', start), path.size());
    std::string part = path.substr(start, end - start);
    if (part == "..") return Error(ErrorCode::kInvalid, path);
    if (part.size() > 255) return Error(ErrorCode::kNameTooLong, path);
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
    start = end + 1;
  }
  return parts;
}

}  // namespace

class MemoryDisk::Lock final : public FolderLock {
 public:
  Lock(MemoryDisk& disk, NodePtr folder) : disk_(disk), folder_(std::move(folder)), life_(disk.crashes_) {
    folder_->locked = true;
  }
  ~Lock() override {
    std::lock_guard lock(disk_.mutex_);
    if (life_ == disk_.crashes_) folder_->locked = false;
    folder_.reset();
  }

 private:
  MemoryDisk& disk_;
  NodePtr folder_;
  uint64_t life_;
};

// ---- Names

MemoryDisk::MemoryDisk(uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {
  root_ = make_node(true);
}
MemoryDisk::~MemoryDisk() = default;

MemoryDisk::NodePtr MemoryDisk::make_node(bool folder) {
  auto node = std::make_shared<Node>();
  node->id = next_node_++;
  node->folder = folder;
  node->crashes = crashes_;
  return node;
}

Result<void> MemoryDisk::check_working(const std::string& doing) const {
  if (failing_ || frozen_) return Error(ErrorCode::kIo, doing + ": the disk has failed");
  return {};
}

void MemoryDisk::spend(Duration fixed, uint64_t bytes) {
  cost_ += fixed;
  if (speed_.bytes_per_second > 0) {
    cost_ +=
        Duration(static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(speed_.bytes_per_second)));
  }
}

Result<MemoryDisk::Effect> MemoryDisk::start_change(const std::string& doing) {
  Result<void> working = check_working(doing);
  if (!working) return working.error();
  spend(speed_.operation, 0);
  if (fail_at_ && operations_ >= *fail_at_) {
    failing_ = true;
    return last_operation_ == LastOperation::kTakesEffect ? Effect::kFailsAfter : Effect::kFailsBefore;
  }
  ++operations_;
  return Effect::kSucceeds;
}

void MemoryDisk::count_space(Node& node) {
  bool used = node.links > 0 || node.open_files > 0;
  uint64_t bytes = used ? node.content.allocated_bytes() : 0;
  used_bytes_ += bytes - node.counted_bytes;
  node.counted_bytes = bytes;
}

Result<void> MemoryDisk::change_names(const std::string& doing, NameChange names) {
  return change(doing, [&] {
    ++counters_.name_changes;
    for (const NameChange::Entry& entry : names.entries) {
      NodePtr& here = entry.folder->names[entry.name];
      if (entry.node) ++entry.node->links;
      if (here) {
        --here->links;
        count_space(*here);
      }
      here = entry.node;
      if (here) {
        count_space(*here);
      } else {
        entry.folder->names.erase(entry.name);
      }
    }
    unsynced_names_.push_back(std::move(names));
  });
}

Result<MemoryDisk::NodePtr> MemoryDisk::find(const std::string& path) const {
  Result<std::vector<std::string>> parts = parts_of(path);
  if (!parts) return parts.error();
  NodePtr node = root_;
  for (const std::string& part : *parts) {
    if (!node->folder) return Error(ErrorCode::kNotDirectory, path);
    auto next = node->names.find(part);
    if (next == node->names.end()) return Error(ErrorCode::kNotFound, path);
    node = next->second;
  }
  return node;
}

Result<MemoryDisk::NodePtr> MemoryDisk::find_folder(const std::string& path) const {
  Result<NodePtr> node = find(path);
  if (node && !(*node)->folder) return Error(ErrorCode::kNotDirectory, path);
  return node;
}

Result<MemoryDisk::Place> MemoryDisk::find_place(const std::string& path) const {
  Result<std::vector<std::string>> parts = parts_of(path);
  if (!parts) return parts.error();
  if (parts->empty()) return Error(ErrorCode::kBusy, "the root");
  Place place;
  place.folder = root_;
  place.name = parts->back();
  parts->pop_back();
  for (const std::string& part : *parts) {
    auto next = place.folder->names.find(part);
    if (next == place.folder->names.end()) return Error(ErrorCode::kNotFound, path);
    if (!next->second->folder) return Error(ErrorCode::kNotDirectory, path);
    place.folder = next->second;
  }
  auto there = place.folder->names.find(place.name);
  if (there != place.folder->names.end()) place.node = there->second;
  return place;
}

Result<std::unique_ptr<File>> MemoryDisk::open(const std::string& path, OpenFlags flags) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("opening " + path);
  if (!working) return working.error();
  Result<Place> place = find_place(path);
  if (!place) return place.error();
  if (place->node && flags.create && flags.exclusive) return Error(ErrorCode::kExists, path);
  if (place->node && place->node->folder) return Error(ErrorCode::kIsDirectory, path);
  if (!place->node) {
    if (!flags.create) return Error(ErrorCode::kNotFound, path);
    place->node = make_node(false);
    Result<void> made = change_names("creating " + path, {{{place->folder, place->name, place->node}}});
    if (!made) return made.error();
  } else if (flags.truncate && place->node->content.size() > 0) {
    Result<void> cut = change("truncating " + path, [&] { place->node->content.truncate(0); });
    count_space(*place->node);
    if (!cut) return cut.error();
  }
  return make_file(place->node, path, flags);
}

Result<bool> MemoryDisk::exists(const std::string& path) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("looking for " + path);
  if (!working) return working.error();
  return find(path).has_value();
}

Result<uint64_t> MemoryDisk::file_size(const std::string& path) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("the size of " + path);
  if (!working) return working.error();
  Result<NodePtr> node = find(path);
  if (!node) return node.error();
  return (*node)->content.size();
}

Result<std::vector<std::string>> MemoryDisk::list(const std::string& folder) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("listing " + folder);
  if (!working) return working.error();
  Result<NodePtr> node = find_folder(folder);
  if (!node) return node.error();
  std::vector<std::string> names;
  for (const auto& [name, child] : (*node)->names)
    names.push_back(name);
  return names;
}

Result<void> MemoryDisk::make_folder(const std::string& path) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("making " + path);
  if (!working) return working;
  Result<std::vector<std::string>> parts = parts_of(path);
  if (!parts) return parts.error();
  NodePtr folder = root_;
  for (const std::string& part : *parts) {
    auto next = folder->names.find(part);
    if (next == folder->names.end()) {
      Result<void> made = change_names("making " + path, {{{folder, part, make_node(true)}}});
      if (!made) return made;
      next = folder->names.find(part);
    }
    folder = next->second;
    if (!folder->folder) return Error(ErrorCode::kNotDirectory, path);
  }
  return {};
}

Result<void> MemoryDisk::remove_locked(const std::string& path) {
  Result<void> working = check_working("removing " + path);
  if (!working) return working;
  Result<Place> place = find_place(path);
  if (!place) return place.error();
  if (!place->node) return Error(ErrorCode::kNotFound, path);
  if (!place->node->names.empty()) return Error(ErrorCode::kNotEmpty, path);
  return change_names("removing " + path, {{{place->folder, place->name, nullptr}}});
}

Result<void> MemoryDisk::remove(const std::string& path) {
  std::lock_guard lock(mutex_);
  return remove_locked(path);
}

Result<void> MemoryDisk::remove_tree_locked(const std::string& path) {
  Result<NodePtr> node = find(path);
  if (node.failed_with(ErrorCode::kNotFound)) return check_working("removing " + path);
  if (!node) return node.error();
  // A copy of the names: removing changes them.
  std::vector<std::string> names;
  for (const auto& [name, child] : (*node)->names)
    names.push_back(name);
  for (const std::string& name : names) {
    Result<void> removed = remove_tree_locked(path + "/" + name);
    if (!removed) return removed;
  }
  return remove_locked(path);
}

Result<void> MemoryDisk::remove_tree(const std::string& path) {
  std::lock_guard lock(mutex_);
  return remove_tree_locked(path);
}

Result<void> MemoryDisk::rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  std::string doing = "renaming " + from + " to " + to;
  Result<void> working = check_working(doing);
  if (!working) return working;
  Result<Place> source = find_place(from);
  if (!source) return source.error();
  Result<Place> target = find_place(to);
  if (!target) return target.error();
  if (!source->node) return Error(ErrorCode::kNotFound, from);
  if (target->node == source->node) return {};
  if (target->node) {
    if (target->node->folder && !source->node->folder) return Error(ErrorCode::kIsDirectory, doing);
    if (!target->node->folder && source->node->folder) return Error(ErrorCode::kNotDirectory, doing);
    if (!target->node->names.empty()) return Error(ErrorCode::kNotEmpty, doing);
  }
  std::vector<std::string> from_parts = *parts_of(from);
  std::vector<std::string> to_parts = *parts_of(to);
  if (to_parts.size() > from_parts.size() && std::equal(from_parts.begin(), from_parts.end(), to_parts.begin())) {
    return Error(ErrorCode::kInvalid, doing);
  }
  return change_names(doing, {{{target->folder, target->name, source->node}, {source->folder, source->name, nullptr}}});
}

Result<void> MemoryDisk::link(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  std::string doing = "linking " + from + " to " + to;
  Result<void> working = check_working(doing);
  if (!working) return working;
  Result<NodePtr> node = find(from);
  if (!node) return node.error();
  if ((*node)->folder) return Error(ErrorCode::kPermission, doing);
  Result<Place> place = find_place(to);
  if (!place) return place.error();
  if (place->node) return Error(ErrorCode::kExists, doing);
  return change_names(doing, {{{place->folder, place->name, *node}}});
}

Result<void> MemoryDisk::sync_folder(const std::string& folder) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("syncing the folder " + folder);
  if (!working) return working;
  Result<NodePtr> node = find_folder(folder);
  if (!node) return node.error();
  return change("syncing the folder " + folder, [&] {
    ++counters_.syncs;
    spend(speed_.sync, 0);
    sync_names(**node);
  });
}

void MemoryDisk::sync_names(const Node& folder) {
  // What touches the folder becomes durable, and with it whatever came before it to the same names elsewhere.
  std::set<std::pair<uint64_t, std::string>> touched;
  std::list<NameChange> chosen;
  for (auto change = unsynced_names_.end(); change != unsynced_names_.begin();) {
    --change;
    bool wanted = std::any_of(change->entries.begin(), change->entries.end(), [&](const NameChange::Entry& entry) {
      return entry.folder.get() == &folder || touched.contains({entry.folder->id, entry.name});
    });
    if (!wanted) continue;
    for (const NameChange::Entry& entry : change->entries)
      touched.emplace(entry.folder->id, entry.name);
    auto next = std::next(change);
    chosen.splice(chosen.begin(), unsynced_names_, change);
    change = next;
  }
  for (const NameChange& change : chosen)
    make_durable(change);
}

void MemoryDisk::make_durable(const NameChange& change) {
  for (const NameChange::Entry& entry : change.entries) {
    if (entry.node) {
      entry.folder->durable_names.insert_or_assign(entry.name, entry.node);
    } else {
      entry.folder->durable_names.erase(entry.name);
    }
  }
}

Result<DiskSpace> MemoryDisk::space(const std::string& folder) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("the space of " + folder);
  if (!working) return working.error();
  Result<NodePtr> node = find(folder);
  if (!node) return node.error();
  return DiskSpace{capacity_bytes_, capacity_bytes_ - std::min(used_bytes_, capacity_bytes_)};
}

Result<std::unique_ptr<FolderLock>> MemoryDisk::lock_folder(const std::string& folder) {
  std::lock_guard lock(mutex_);
  Result<void> working = check_working("locking " + folder);
  if (!working) return working.error();
  Result<NodePtr> node = find_folder(folder);
  if (!node) return node.error();
  if ((*node)->locked) return Error(ErrorCode::kBusy, folder + " is in use by another process");
  return std::make_unique<Lock>(*this, *node);
}

// ---- Faults

void MemoryDisk::crash(Random* keep) {
  std::lock_guard lock(mutex_);
  for (const NameChange& change : unsynced_names_) {
    if (keep && keep->chance(1, 2)) make_durable(change);
  }
  unsynced_names_.clear();
  ++crashes_;
  used_bytes_ = 0;
  failing_ = false;
  fail_at_.reset();
  crash_node(*root_, keep);
}

void MemoryDisk::crash_node(Node& node, Random* keep) {
  if (node.crashes != crashes_) {
    node.crashes = crashes_;
    node.links = 0;
    node.open_files = 0;
    node.counted_bytes = 0;
    node.locked = false;
    node.content.crash(keep);
    node.names = node.durable_names;
    for (auto& [name, child] : node.names)
      crash_node(*child, keep);
  }
  ++node.links;
  count_space(node);
}

uint64_t MemoryDisk::operations() const {
  std::lock_guard lock(mutex_);
  return operations_;
}

void MemoryDisk::fail_after(uint64_t count, LastOperation last) {
  std::lock_guard lock(mutex_);
  fail_at_ = operations_ + count;
  last_operation_ = last;
}

void MemoryDisk::heal() {
  std::lock_guard lock(mutex_);
  failing_ = false;
  fail_at_.reset();
}

bool MemoryDisk::failing() const {
  std::lock_guard lock(mutex_);
  return failing_;
}

void MemoryDisk::set_frozen(bool frozen) {
  std::lock_guard lock(mutex_);
  frozen_ = frozen;
}

void MemoryDisk::set_capacity(uint64_t capacity_bytes) {
  std::lock_guard lock(mutex_);
  capacity_bytes_ = capacity_bytes;
}

void MemoryDisk::set_nothing_cached(bool nothing_cached) {
  std::lock_guard lock(mutex_);
  nothing_cached_ = nothing_cached;
}

Result<void> MemoryDisk::flip_byte(const std::string& path, uint64_t offset) {
  std::lock_guard lock(mutex_);
  Result<NodePtr> node = find(path);
  if (!node) return node.error();
  if (offset >= (*node)->content.size()) return Error(ErrorCode::kRange, path);
  (*node)->content.flip_byte(offset);
  count_space(**node);
  return {};
}

void MemoryDisk::set_speed(DiskSpeed speed) {
  std::lock_guard lock(mutex_);
  speed_ = speed;
}

Duration MemoryDisk::take_cost() {
  std::lock_guard lock(mutex_);
  return std::exchange(cost_, Duration::zero());
}

DiskCounters MemoryDisk::counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

}  // namespace cairn
