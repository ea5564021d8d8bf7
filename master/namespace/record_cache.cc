#include "master/namespace/record_cache.h"

#include <utility>

namespace cairn {

// A list node, a hash node and two strings' allocations, beside their bytes.
static constexpr size_t kEntryOverheadBytes = 160;

size_t RecordCache::cost(const Node& node) {
  return kEntryOverheadBytes + node.key.size() + (node.value ? node.value->size() : 0);
}

std::optional<RecordCache::Value> RecordCache::find(std::string_view key) {
  std::lock_guard lock(mutex_);
  auto found = index_.find(key);
  if (found == index_.end()) return std::nullopt;
  Nodes::iterator node = found->second;
  if (!node->pinned && node != clean_.begin()) clean_.splice(clean_.begin(), clean_, node);
  return node->value;
}

void RecordCache::insert(std::string_view key, const Value& value) {
  std::lock_guard lock(mutex_);
  if (index_.contains(key)) return;
  add(key, value, false);
  shrink();
}

void RecordCache::put_pinned(std::string_view key, Value value) {
  std::lock_guard lock(mutex_);
  auto found = index_.find(key);
  if (found == index_.end()) {
    add(key, std::move(value), true);
    return;
  }
  Nodes::iterator node = found->second;
  bytes_ -= cost(*node);
  node->value = std::move(value);
  bytes_ += cost(*node);
  if (node->pinned) return;
  node->pinned = true;
  pinned_.splice(pinned_.begin(), clean_, node);
}

void RecordCache::unpin_all() {
  std::lock_guard lock(mutex_);
  for (Node& node : pinned_)
    node.pinned = false;
  clean_.splice(clean_.begin(), pinned_);
  shrink();
}

size_t RecordCache::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

size_t RecordCache::entries() const {
  std::lock_guard lock(mutex_);
  return index_.size();
}

void RecordCache::add(std::string_view key, Value value, bool pinned) {
  Nodes& nodes = pinned ? pinned_ : clean_;
  nodes.push_front(Node{std::string(key), std::move(value), pinned});
  index_.emplace(nodes.front().key, nodes.begin());
  bytes_ += cost(nodes.front());
}

void RecordCache::shrink() {
  while (bytes_ > max_bytes_ && !clean_.empty()) {
    bytes_ -= cost(clean_.back());
    index_.erase(clean_.back().key);
    clean_.pop_back();
  }
}

}  // namespace cairn
