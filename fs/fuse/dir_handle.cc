#include "fs/fuse/dir_handle.h"

#include <algorithm>
#include <utility>

namespace cairn {

std::optional<size_t> DirectoryPage::position_after(uint64_t cookie) const {
  if (cookie == after) return 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].cookie == cookie) return i + 1;
  }
  return std::nullopt;
}

uint64_t DirectoryHandles::open(InodeId directory) {
  uint64_t handle = next_++;
  handles_[handle].directory = directory;
  return handle;
}

void DirectoryHandles::release(uint64_t handle) {
  handles_.erase(handle);
}

const DirectoryPage* DirectoryHandles::page(uint64_t handle, uint64_t cookie, bool plus) const {
  auto found = handles_.find(handle);
  if (found == handles_.end() || !found->second.has_page) return nullptr;
  const DirectoryPage& page = found->second.page;
  // A rewound directory is listed afresh.
  if (cookie == 0 || (plus && !page.plus)) return nullptr;
  std::optional<size_t> position = page.position_after(file_system_cookie(cookie));
  if (!position || (*position == page.entries.size() && !page.end)) return nullptr;
  return &page;
}

uint64_t DirectoryHandles::fetching(InodeId directory) {
  fetches_[next_].directory = directory;
  return next_++;
}

void DirectoryHandles::fetched(uint64_t fetch, DirectoryPage& page) {
  auto own = fetches_.find(fetch);
  const Fetch& what = own->second;
  page.names_removed = page.names_removed || what.names_recalled || what.all_recalled;
  for (DirectoryEntry& entry : page.entries) {
    if (std::ranges::find(what.recalled, entry.inode) != what.recalled.end()) entry.attributes.reset();
  }
  fetches_.erase(own);
}

void DirectoryHandles::names_recalled(InodeId directory) {
  for (auto& [id, handle] : handles_) {
    if (handle.directory != directory) continue;
    handle.has_page = false;
    handle.page = {};
  }
  for (auto& [id, fetch] : fetches_)
    fetch.names_recalled = fetch.names_recalled || fetch.directory == directory;
}

void DirectoryHandles::attributes_recalled(InodeId inode) {
  for (auto& [id, handle] : handles_) {
    for (DirectoryEntry& entry : handle.page.entries) {
      if (entry.inode == inode) entry.attributes.reset();
    }
  }
  for (auto& [id, fetch] : fetches_) {
    if (fetch.recalled.size() < kRecalledMax) {
      fetch.recalled.push_back(inode);
    } else {
      fetch.all_recalled = true;
    }
  }
}

void DirectoryHandles::everything_recalled() {
  for (auto& [id, handle] : handles_) {
    handle.has_page = false;
    handle.page = {};
  }
  for (auto& [id, fetch] : fetches_)
    fetch.all_recalled = true;
}

void DirectoryHandles::plus_given(uint64_t handle, TimePoint now) {
  auto found = handles_.find(handle);
  if (found != handles_.end()) found->second.plus_given = now;
}

bool DirectoryHandles::plus_taken(uint64_t handle) {
  auto found = handles_.find(handle);
  if (found == handles_.end()) return false;
  found->second.plus_given.reset();
  return std::exchange(found->second.proof_wanted, false);
}

std::optional<TimePoint> DirectoryHandles::plus_under_way(InodeId directory) const {
  std::optional<TimePoint> last;
  for (const auto& [id, handle] : handles_) {
    if (handle.directory == directory && handle.plus_given) last = std::max(last, handle.plus_given);
  }
  return last;
}

bool DirectoryHandles::any_plus_under_way() const {
  return std::ranges::any_of(handles_, [](const auto& item) { return item.second.plus_given.has_value(); });
}

void DirectoryHandles::wait_for_proof(InodeId directory) {
  for (auto& [id, handle] : handles_) {
    if (handle.plus_given && (!directory || handle.directory == directory)) handle.proof_wanted = true;
  }
}

void DirectoryHandles::names_removed(InodeId directory) {
  for (auto& [id, handle] : handles_) {
    if (handle.directory == directory) handle.page.names_removed = true;
  }
}

void DirectoryHandles::store(uint64_t handle, DirectoryPage page) {
  auto found = handles_.find(handle);
  if (found == handles_.end()) return;
  found->second.page = std::move(page);
  found->second.has_page = true;
}

}  // namespace cairn
