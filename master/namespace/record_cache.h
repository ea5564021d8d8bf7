// RecordCache: raw records above the KvStore, those known to be absent too, bounded in bytes, the least recently used go first.
//
// Pinned entries hold what the store does not have yet: they stay until unpin(). Thread-safe; each call holds its lock briefly. What a cached
// record means (which state it belongs to) is the owner's matter: see Machine.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace cairn {

class RecordCache {
 public:
  using Value = std::optional<std::string>;  // none: known to be absent

  explicit RecordCache(size_t max_bytes) : max_bytes_(max_bytes) {}

  // The outer optional is empty if nothing is known about the key.
  std::optional<Value> find(std::string_view key);
  // What the store answered; an entry that is already there stays as it is.
  void insert(std::string_view key, const Value& value);
  // What the store will have next, pinned.
  void put_pinned(std::string key, Value value);
  // The store has it all now. What `keep` denies is forgotten.
  void unpin_all(bool (*keep)(std::string_view key));

  size_t bytes() const;
  size_t entries() const;

 private:
  struct Node {
    std::string key;
    Value value;
    bool pinned = false;
  };
  using Nodes = std::list<Node>;

  static size_t cost(const Node& node);
  void add(std::string key, Value value, bool pinned);
  void forget(Nodes& nodes, Nodes::iterator node);
  void shrink();

  const size_t max_bytes_;
  mutable std::mutex mutex_;
  Nodes clean_;   // most recently used first
  Nodes pinned_;
  std::unordered_map<std::string_view, Nodes::iterator> index_;  // keys are views of the nodes' own
  size_t bytes_ = 0;
};

}  // namespace cairn
