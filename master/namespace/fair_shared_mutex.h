// FairSharedMutex: a reader-writer lock under which a writer's turn comes although readers keep arriving (glibc's own lets readers starve it).
// Thread-safe; not recursive, not even for readers.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace cairn {

class FairSharedMutex {
 public:
  void lock() {
    std::lock_guard turn(turn_);  // held while waiting: later readers wait behind this writer
    mutex_.lock();
  }
  void unlock() { mutex_.unlock(); }
  void lock_shared() {
    std::lock_guard turn(turn_);
    mutex_.lock_shared();
  }
  void unlock_shared() { mutex_.unlock_shared(); }

 private:
  std::mutex turn_;
  std::shared_mutex mutex_;
};

}  // namespace cairn
