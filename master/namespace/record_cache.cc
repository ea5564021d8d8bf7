#include "master/namespace/record_cache.h"

#include <cstring>
#include <functional>
#include <new>

namespace cairn {

namespace {
// What an entry costs beside its bytes: its own fields, the allocation's, its place in the table.
constexpr size_t kEntryOverheadBytes = 112;
// How many entries one call may pass over because somebody asked for them, before it takes the next: else the first to
// find the cache full would look at all of it.
constexpr int kPassedOverMax = 32;

uint64_t hash_of(std::string_view key) {
  return std::hash<std::string_view>()(key);
}
}  // namespace

size_t RecordCache::cost(const Node& node) {
  return kEntryOverheadBytes + node.key_bytes + node.value_room;
}

RecordCache::Node* RecordCache::make(std::string_view key, uint64_t hash, const Value& value) {
  const size_t value_bytes = value ? value->size() : 0;
  Node* node = new (::operator new(sizeof(Node) + key.size() + value_bytes)) Node;
  node->hash = hash;
  node->key_bytes = static_cast<uint32_t>(key.size());
  node->value_room = static_cast<uint32_t>(value_bytes);
  std::memcpy(node->content(), key.data(), key.size());
  assign(*node, value);
  return node;
}

void RecordCache::destroy(Node* node) {
  node->~Node();
  ::operator delete(node);
}

// The value must fit.
void RecordCache::assign(Node& node, const Value& value) {
  node.absent = !value;
  node.value_bytes = value ? static_cast<uint32_t>(value->size()) : 0;
  if (value) std::memcpy(node.content() + node.key_bytes, value->data(), value->size());
}

RecordCache::~RecordCache() {
  order_.clear_and_dispose(destroy);
}

RecordCache::Node* RecordCache::lookup(std::string_view key, uint64_t hash) const {
  const Index& among = index(hash);
  auto found = among.find(hash);
  if (found == among.end()) return nullptr;
  Node* node = found->second;
  while (node != nullptr && node->key() != key)
    node = node->same_hash;
  return node;
}

std::optional<RecordCache::Value> RecordCache::find(std::string_view key) {
  const uint64_t hash = hash_of(key);
  std::lock_guard lock(mutex_);
  Node* node = lookup(key, hash);
  if (node == nullptr) return std::nullopt;
  node->asked_for = true;
  if (node->absent) return Value();
  return Value(std::string(node->value()));
}

void RecordCache::insert(std::string_view key, const Value& value) {
  const uint64_t hash = hash_of(key);
  std::lock_guard lock(mutex_);
  if (lookup(key, hash) != nullptr) return;
  add(make(key, hash, value));
  shrink();
}

void RecordCache::put_pinned(std::string_view key, const Value& value) {
  const uint64_t hash = hash_of(key);
  std::lock_guard lock(mutex_);
  Node* node = lookup(key, hash);
  if (node != nullptr && node->pinned && (value ? value->size() : 0) > node->value_room) {
    // Its place among the pinned is known by its address.
    std::erase(pinned_, node);
    node->pinned = false;
  }
  if (node != nullptr && (value ? value->size() : 0) <= node->value_room) {
    assign(*node, value);
  } else if (node != nullptr) {
    Node* larger = make(key, hash, value);
    replace(node, larger);
    node = larger;
  } else {
    node = make(key, hash, value);
    add(node);
  }
  if (node->pinned) return;
  node->pinned = true;
  pinned_.push_back(node);
}

void RecordCache::unpin_all() {
  std::lock_guard lock(mutex_);
  for (Node* node : pinned_)
    node->pinned = false;
  pinned_.clear();
  shrink();
}

size_t RecordCache::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

size_t RecordCache::entries() const {
  std::lock_guard lock(mutex_);
  return entries_;
}

void RecordCache::add(Node* node) {
  Node*& first = index(node->hash)[node->hash];
  node->same_hash = first;
  first = node;
  order_.push_front(*node);
  bytes_ += cost(*node);
  ++entries_;
}

// Out of everything, and destroyed.
void RecordCache::remove(Node* node) {
  Index& among = index(node->hash);
  auto found = among.find(node->hash);
  Node** link = &found->second;
  while (*link != node)
    link = &(*link)->same_hash;
  *link = node->same_hash;
  if (found->second == nullptr) among.erase(found);
  order_.erase(order_.iterator_to(*node));
  bytes_ -= cost(*node);
  --entries_;
  destroy(node);
}

void RecordCache::replace(Node* old, Node* fresh) {
  remove(old);
  add(fresh);
}

void RecordCache::shrink() {
  int passed_over = 0;
  size_t left = entries_;  // all may be pinned
  while (bytes_ > max_bytes_ && left-- > 0) {
    Node* oldest = &order_.back();
    const bool spared = oldest->asked_for && passed_over++ < kPassedOverMax;
    if (!oldest->pinned && !spared) {
      remove(oldest);
      continue;
    }
    oldest->asked_for = false;
    order_.splice(order_.begin(), order_, order_.iterator_to(*oldest));
  }
}

}  // namespace cairn
