#include "master/namespace/record_cache.h"

#include <iterator>
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
  add(std::string(key), value, false);
  shrink();
}

void RecordCache::put_pinned(std::string key, Value value) {
  std::lock_guard lock(mutex_);
  auto found = index_.find(key);
  if (found == index_.end()) {
    add(std::move(key), std::move(value), true);
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

void RecordCache::unpin_all(bool (*keep)(std::string_view key)) {
  std::lock_guard lock(mutex_);
  for (Nodes::iterator node = pinned_.begin(); node != pinned_.end();) {
    const Nodes::iterator next = std::next(node);
    node->pinned = false;
    if (!keep(node->key)) forget(pinned_, node);
    node = next;
  }
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

void RecordCache::add(std::string key, Value value, bool pinned) {
  Nodes& nodes = pinned ? pinned_ : clean_;
  nodes.push_front(Node{std::move(key), std::move(value), pinned});
  index_.emplace(nodes.front().key, nodes.begin());
  bytes_ += cost(nodes.front());
}

void RecordCache::shrink() {
  while (bytes_ > max_bytes_ && !clean_.empty())
    forget(clean_, std::prev(clean_.end()));
}

void RecordCache::forget(Nodes& nodes, Nodes::iterator node) {
  bytes_ -= cost(*node);
  index_.erase(node->key);
  nodes.erase(node);
}

}  // namespace cairn
