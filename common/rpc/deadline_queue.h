// DeadlineQueue: which of many calls is due next, for one timer. What has ended is not taken out but skipped when it
// comes up; when most of the queue is that, it is made anew, so that a call costs no allocation and no tree.
//
// Pure; not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "common/runtime/clock.h"

namespace cairn {

class DeadlineQueue {
 public:
  struct Entry {
    TimePoint when;
    uint64_t id;
    bool operator>(const Entry& other) const { return std::pair(when, id) > std::pair(other.when, other.id); }
  };

  // `live` tells whether an id still waits, `live_count` how many do.
  template <class Live>
  void push(TimePoint when, uint64_t id, size_t live_count, Live live) {
    if (heap_.size() >= 2 * live_count + kSlack) {
      std::erase_if(heap_, [&](const Entry& entry) { return !live(entry.id); });
      std::ranges::make_heap(heap_, std::greater<>());
    }
    heap_.push_back({when, id});
    std::ranges::push_heap(heap_, std::greater<>());
  }

  bool empty() const { return heap_.empty(); }
  TimePoint earliest() const { return heap_.front().when; }
  uint64_t pop() {
    std::ranges::pop_heap(heap_, std::greater<>());
    uint64_t id = heap_.back().id;
    heap_.pop_back();
    return id;
  }
  size_t size() const { return heap_.size(); }

 private:
  static constexpr size_t kSlack = 64;
  std::vector<Entry> heap_;
};

}  // namespace cairn
