#include "fs/client/name_cache.h"

#include <algorithm>
#include <utility>

namespace cairn {

NameCache::Known* NameCache::find(InodeId inode) {
  auto found = young_.find(inode);
  if (found != young_.end()) return &found->second;
  auto old = old_.find(inode);
  if (old == old_.end()) return nullptr;
  if (young_.size() >= entries_max_ / 2) old_ = std::exchange(young_, {});
  old = old_.find(inode);
  if (old == old_.end()) return nullptr;
  Known& moved = young_[inode] = std::move(old->second);
  old_.erase(old);
  return &moved;
}

void NameCache::heard(const Attributes& attributes, TimePoint until) {
  if (!attributes.inode || attributes.nlink == 0) return forget(attributes.inode);
  auto directory = directories_.find(attributes.inode);
  if (directory != directories_.end() && attributes.change > directory->second.change) {
    drop_directory(attributes.inode);  // somebody else changed it, perhaps its names
  }
  Known* known = find(attributes.inode);
  if (!known) {
    if (until == TimePoint{}) return;
    if (young_.size() >= entries_max_ / 2) old_ = std::exchange(young_, {});
    young_.emplace(attributes.inode, Known{attributes, until});
    return;
  }
  if (attributes.change < known->attributes.change) return;
  known->attributes = attributes;
  known->until = std::max(known->until, until);
}

std::optional<NameCache::Known> NameCache::attributes(InodeId inode, TimePoint now) {
  Known* known = find(inode);
  if (!known || known->until <= now) return std::nullopt;
  return *known;
}

void NameCache::made_directory(const Attributes& directory) {
  drop_directory(directory.inode);
  directories_[directory.inode] = Directory{.change = directory.change, .names = {}, .used = ++clock_};
  make_room();
}

void NameCache::changed(const Attributes& directory, uint64_t steps) {
  auto found = directories_.find(directory.inode);
  if (found == directories_.end()) return;
  if (directory.change != found->second.change + steps) return drop_directory(directory.inode);
  found->second.change = directory.change;
  found->second.used = ++clock_;
}

void NameCache::added(InodeId directory, std::string_view name) {
  auto found = directories_.find(directory);
  if (found == directories_.end()) return;
  if (found->second.names.emplace(name).second) ++names_;
  make_room();
}

void NameCache::removed(InodeId directory, std::string_view name) {
  auto found = directories_.find(directory);
  if (found == directories_.end()) return;
  names_ -= found->second.names.erase(std::string(name));
}

std::optional<TimePoint> NameCache::absent_until(InodeId directory, const std::string& name, TimePoint now) {
  auto found = directories_.find(directory);
  if (found == directories_.end() || found->second.names.contains(name)) return std::nullopt;
  std::optional<Known> known = attributes(directory, now);
  if (!known || known->attributes.change != found->second.change) return std::nullopt;
  found->second.used = ++clock_;
  return known->until;
}

void NameCache::forget(InodeId inode) {
  young_.erase(inode);
  old_.erase(inode);
  drop_directory(inode);
}

void NameCache::clear() {
  young_.clear();
  old_.clear();
  directories_.clear();
  names_ = 0;
}

void NameCache::drop_directory(InodeId inode) {
  auto found = directories_.find(inode);
  if (found == directories_.end()) return;
  names_ -= found->second.names.size();
  directories_.erase(found);
}

// Directories count as one name each, so that many empty ones are bounded too.
void NameCache::make_room() {
  while (names_ + directories_.size() > entries_max_ && !directories_.empty()) {
    auto oldest = std::ranges::min_element(directories_, {}, [](const auto& entry) { return entry.second.used; });
    drop_directory(oldest->first);
  }
}

}  // namespace cairn
