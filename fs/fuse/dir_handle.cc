#include "fs/fuse/dir_handle.h"

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
