// KeyedLocks: one mutex for each key that somebody holds or waits for. Those who wait for one key get it in the order
// in which they asked; who goes away frees its place.
//
// Loop thread only. Must outlive its holds and the frames that wait.
#pragma once

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/sync.h"

namespace cairn {

template <class Key>
class KeyedLocks {
  struct Lock {
    explicit Lock(Executor& executor) : mutex(executor) {}
    Mutex mutex;
    uint32_t users = 0;  // who holds it, and those who wait
  };
  using Place = typename std::map<Key, Lock>::iterator;

 public:
  explicit KeyedLocks(Executor& executor) : executor_(executor) {}
  KeyedLocks(const KeyedLocks&) = delete;
  KeyedLocks& operator=(const KeyedLocks&) = delete;

  class Hold {
   public:
    Hold(Hold&& other) noexcept
        : locks_(std::exchange(other.locks_, nullptr)), place_(other.place_), permit_(std::move(other.permit_)) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (!locks_) return;
      permit_ = {};
      if (--place_->second.users == 0) locks_->locks_.erase(place_);
    }

   private:
    friend class KeyedLocks;
    Hold(KeyedLocks* locks, Place place) : locks_(locks), place_(place) { ++place->second.users; }
    KeyedLocks* locks_;
    Place place_;
    Semaphore::Permit permit_;
  };
  using Holds = std::vector<Hold>;

  // All of them, in one order everywhere, so that no two who ask for several wait for each other. kTimeout.
  Task<Result<Holds>> lock(std::vector<Key> keys, Clock& clock, TimePoint deadline) {
    std::ranges::sort(keys);
    keys.erase(std::ranges::unique(keys).begin(), keys.end());
    Holds holds;
    holds.reserve(keys.size());
    for (const Key& key : keys) {
      holds.push_back(Hold(this, locks_.try_emplace(key, executor_).first));
      Hold& hold = holds.back();
      Result<Semaphore::Permit> permit = co_await hold.place_->second.mutex.acquire_until(1, clock, deadline);
      if (!permit) co_return permit.error();
      hold.permit_ = std::move(*permit);
    }
    co_return Result<Holds>(std::move(holds));
  }

  size_t size() const { return locks_.size(); }

 private:
  Executor& executor_;
  std::map<Key, Lock> locks_;
};

}  // namespace cairn
