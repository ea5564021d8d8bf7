#include "fs/client/name_cache.h"

#include <algorithm>
#include <utility>

namespace cairn {

// ---------------------------------------------------------------- attributes

NameCache::Known* NameCache::find(InodeId inode) {
  auto found = young_.find(inode);
  if (found != young_.end()) return &found->second;
  auto old = old_.find(inode);
  if (old == old_.end()) return nullptr;
  Known moved = std::move(old->second);
  old_.erase(old);
  if (young_.size() >= entries_max_ / 2) old_ = std::exchange(young_, {});
  return &(young_[inode] = std::move(moved));
}

void NameCache::heard(const Attributes& attributes) {
  if (!attributes.inode) return;
  if (attributes.nlink == 0) return forget(attributes.inode);
  Known* known = find(attributes.inode);
  if (!known) {
    if (young_.size() >= entries_max_ / 2) old_ = std::exchange(young_, {});
    young_.emplace(attributes.inode, Known{.attributes = attributes, .target = {}, .xattrs = {}});
    return;
  }
  if (attributes.change < known->attributes.change) return;
  if (attributes.change > known->attributes.change) known->xattrs.reset();
  known->attributes = attributes;
}

void NameCache::heard_of(const Attributes& attributes) {
  if (!attributes.inode) return;
  Known* known = find(attributes.inode);
  if (known && (attributes.nlink == 0 || attributes.change > known->attributes.change))
    forget_attributes(attributes.inode);
}

const Attributes* NameCache::attributes(InodeId inode) {
  Known* known = find(inode);
  return known ? &known->attributes : nullptr;
}

void NameCache::heard_target(InodeId symlink, std::string target) {
  Known* known = find(symlink);
  if (known && known->attributes.type == FileType::kSymlink) known->target = std::move(target);
}

const std::string* NameCache::target(InodeId symlink) {
  Known* known = find(symlink);
  return known && !known->target.empty() ? &known->target : nullptr;
}

void NameCache::heard_xattrs(InodeId inode, uint64_t change, std::vector<std::string> names) {
  Known* known = find(inode);
  if (known && known->attributes.change == change) known->xattrs = std::move(names);
}

const std::vector<std::string>* NameCache::xattrs(InodeId inode) {
  Known* known = find(inode);
  return known && known->xattrs ? &*known->xattrs : nullptr;
}

// ---------------------------------------------------------------- names

NameCache::Directory& NameCache::directory_of(InodeId inode) {
  Directory& directory = directories_[inode];
  directory.used = ++clock_;
  return directory;
}

void NameCache::set_name(Directory& directory, const std::string& name, Name value) {
  if (directory.names.insert_or_assign(name, value).second) ++names_;
}

void NameCache::erase_name(Directory& directory, const std::string& name) {
  names_ -= directory.names.erase(name);
}

void NameCache::drop_listing(Directory& directory) {
  names_ -= directory.listing.size();
  directory.listing = {};
  directory.listed = directory.listing_goes_on = false;
}

void NameCache::made_directory(const Attributes& attributes) {
  forget_names(attributes.inode);
  Directory& directory = directory_of(attributes.inode);
  directory.change = attributes.change;
  directory.complete = true;
  make_room();
}

void NameCache::looked_up(const Attributes& attributes, const std::string& name, InodeId inode) {
  Directory& directory = directory_of(attributes.inode);
  if (attributes.change < directory.change) return;  // it has been changed since by this mount
  directory.change = attributes.change;
  set_name(directory, name, Name{.inode = inode});
  make_room();
}

void NameCache::added(const Attributes& attributes, const std::string& name, InodeId inode) {
  auto found = directories_.find(attributes.inode);
  if (found == directories_.end() && !inode) return;
  Directory& directory = directory_of(attributes.inode);
  drop_listing(directory);  // where it is in the order is not known
  // A name that was given twice at the same time is somebody's, but whose?
  bool certain = inode && attributes.change >= directory.change;
  directory.change = std::max(directory.change, attributes.change);
  set_name(directory, name, Name{.certain = certain, .inode = inode});
  make_room();
}

void NameCache::removed(const Attributes& attributes, const std::string& name) {
  auto found = directories_.find(attributes.inode);
  if (found == directories_.end()) return;
  Directory& directory = found->second;
  directory.used = ++clock_;
  bool certain = attributes.change >= directory.change;
  directory.change = std::max(directory.change, attributes.change);
  if (directory.listed && certain) {
    names_ -= std::erase_if(directory.listing, [&](const Listed& entry) { return entry.name == name; });
  } else {
    drop_listing(directory);
  }
  if (certain && directory.complete) {
    erase_name(directory, name);
  } else {
    set_name(directory, name, Name{.certain = certain, .inode = {}});
  }
}

std::optional<InodeId> NameCache::name(InodeId inode, const std::string& name) {
  auto found = directories_.find(inode);
  if (found == directories_.end()) return std::nullopt;
  Directory& directory = found->second;
  directory.used = ++clock_;
  auto known = directory.names.find(name);
  if (known == directory.names.end()) return directory.complete ? std::optional<InodeId>(InodeId{}) : std::nullopt;
  return known->second.certain ? std::optional<InodeId>(known->second.inode) : std::nullopt;
}

// ---------------------------------------------------------------- listings

void NameCache::listed(uint64_t cookie, const ReadDirectoryReply& page) {
  Directory& directory = directory_of(page.directory.inode);
  if (page.directory.change < directory.change || directory.listed) return;
  directory.change = page.directory.change;
  if (cookie == 0) {
    drop_listing(directory);
    directory.listing_goes_on = true;
    directory.listing_change = page.directory.change;
  }
  uint64_t last = directory.listing.empty() ? 0 : directory.listing.back().cookie;
  bool follows = directory.listing_goes_on && last == cookie && page.directory.change == directory.listing_change;
  bool fits = names_ + 2 * page.entries.size() + directory.listing.size() < entries_max_;
  if (!follows || !fits) return drop_listing(directory);
  for (const DirectoryEntry& entry : page.entries) {
    directory.listing.push_back({.name = entry.name, .inode = entry.inode, .type = entry.type, .cookie = entry.cookie});
    ++names_;
  }
  directory.parent = page.parent;
  if (!page.end) return;
  directory.listing_goes_on = false;
  directory.listed = directory.complete = true;
  names_ -= directory.names.size();
  directory.names.clear();
  for (const Listed& entry : directory.listing)
    set_name(directory, entry.name, Name{.inode = entry.inode});
  make_room();
}

std::optional<NameCache::Page> NameCache::page(InodeId inode, uint64_t cookie, uint32_t count_max) {
  auto found = directories_.find(inode);
  if (found == directories_.end() || !found->second.listed) return std::nullopt;
  Directory& directory = found->second;
  directory.used = ++clock_;
  auto next = std::ranges::upper_bound(directory.listing, cookie, {}, &Listed::cookie);
  Page page{.entries = {}, .end = true, .parent = directory.parent};
  for (; next != directory.listing.end(); ++next) {
    if (page.entries.size() == count_max) {
      page.end = false;
      break;
    }
    DirectoryEntry entry;
    entry.name = next->name;
    entry.inode = next->inode;
    entry.type = next->type;
    entry.cookie = next->cookie;
    page.entries.push_back(std::move(entry));
  }
  return page;
}

// ---------------------------------------------------------------- what is over

void NameCache::forget_attributes(InodeId inode) {
  young_.erase(inode);
  old_.erase(inode);
}

void NameCache::forget_name(InodeId inode, const std::string& name) {
  forget_attributes(inode);
  auto found = directories_.find(inode);
  if (found == directories_.end()) return;
  drop_listing(found->second);
  if (found->second.complete) {
    set_name(found->second, name, Name{.certain = false, .inode = {}});
  } else {
    erase_name(found->second, name);
  }
}

void NameCache::forget_listing(InodeId inode) {
  auto found = directories_.find(inode);
  if (found != directories_.end()) drop_listing(found->second);
}

void NameCache::forget_names(InodeId inode) {
  auto found = directories_.find(inode);
  if (found == directories_.end()) return;
  names_ -= found->second.names.size() + found->second.listing.size();
  directories_.erase(found);
}

void NameCache::forget(InodeId inode) {
  forget_attributes(inode);
  forget_names(inode);
}

void NameCache::clear() {
  young_.clear();
  old_.clear();
  directories_.clear();
  names_ = 0;
}

// Directories count as one name each, so that many empty ones are bounded too. An eighth at once: looking for the
// oldest takes a look at all.
void NameCache::make_room() {
  while (names_ + directories_.size() > entries_max_ && !directories_.empty()) {
    std::vector<std::pair<uint64_t, InodeId>> ages;
    for (const auto& [inode, directory] : directories_)
      ages.emplace_back(directory.used, inode);
    auto last = ages.begin() + static_cast<ptrdiff_t>(ages.size() / 8);
    std::ranges::nth_element(ages, last);
    for (auto it = ages.begin(); it <= last; ++it)
      forget_names(it->second);
  }
}

}  // namespace cairn
