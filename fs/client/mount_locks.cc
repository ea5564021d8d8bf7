// Mount: locks of files.
#include <utility>

#include "common/base/log.h"
#include "fs/client/mount.h"

namespace cairn {

Task<Result<void>> Mount::set_lock(HandleId id, FileLock lock, std::shared_ptr<LockWait> wait) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  bool lost = lock.mode != LockMode::kUnlock && std::exchange(handle->second.locks_lost, false);
  if (lost) co_return Error(ErrorCode::kIo, "locks of this handle were lost");
  Result<void> set = co_await locks_.set(handle->second.inode, id, lock, std::move(wait));
  co_return set;
}

Task<Result<std::optional<FileLock>>> Mount::test_lock(HandleId id, FileLock lock) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  Result<std::optional<FileLock>> in_the_way = co_await locks_.test(handle->second.inode, lock);
  co_return in_the_way;
}

Task<void> Mount::release_locks(HandleId id, uint64_t owner) {
  auto handle = handles_.find(id);
  if (handle != handles_.end()) co_await locks_.release_owner(handle->second.inode, owner);
}

void Mount::mark_locks_lost(const std::set<HandleId>& handles) {
  for (HandleId id : handles) {
    auto handle = handles_.find(id);
    if (handle != handles_.end()) handle->second.locks_lost = true;
  }
}

Task<void> Mount::take_lease(InodeId inode) {
  Inode* state = find(inode);
  if (!state || state->opens == 0 || state->attributes.type != FileType::kRegular) co_return;
  ++state->operations;
  Result<void> taken = co_await writer_of(*state).take_lease();
  --state->operations;
  if (!taken) log_debug("client.no_lease_for_locks", "inode={} error={}", inode, quoted(taken.error().message()));
}

}  // namespace cairn
