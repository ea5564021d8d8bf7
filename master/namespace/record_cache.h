// RecordCache: raw records above the KvStore, those known to be absent too, bounded in bytes; what has not been asked for
// lately goes first.
//
// Pinned entries hold what the store does not have yet: they stay until unpin_all(). Thread-safe; each call holds its lock
// briefly. What a cached record means (which state it belongs to) is the owner's matter: see Machine.
//
// An entry is one allocation, and a hit touches nothing but the entry itself: at a million entries each further cache line
// costs more than the rest of a look-up. So "lately" is one bit an entry (a second chance), not an exact order.
#pragma once

#include <array>
#include <boost/intrusive/list.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

class RecordCache {
 public:
  using Value = std::optional<std::string>;  // none: known to be absent

  explicit RecordCache(size_t max_bytes) : max_bytes_(max_bytes) {}
  ~RecordCache();
  RecordCache(const RecordCache&) = delete;
  RecordCache& operator=(const RecordCache&) = delete;

  // The outer optional is empty if nothing is known about the key.
  std::optional<Value> find(std::string_view key);
  // What the store answered; an entry that is already there stays as it is.
  void insert(std::string_view key, const Value& value);
  // What the store will have next, pinned.
  void put_pinned(std::string_view key, const Value& value);
  // The store has it all now.
  void unpin_all();

  size_t bytes() const;
  size_t entries() const;

 private:
  struct Node;
  using Order = boost::intrusive::list_member_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>>;
  struct Node {
    Order order;
    Node* same_hash = nullptr;  // the next one whose key has the same hash
    uint64_t hash = 0;
    uint32_t key_bytes = 0;
    uint32_t value_bytes = 0;
    uint32_t value_room = 0;
    bool absent = false;
    bool pinned = false;
    bool asked_for = false;  // since it was last passed over

    // The bytes stand behind the node.
    char* content() { return reinterpret_cast<char*>(this + 1); }
    std::string_view key() { return {content(), key_bytes}; }
    std::string_view value() { return {content() + key_bytes, value_bytes}; }
  };
  // The keys of the table are hashes already.
  struct AsItIs {
    using is_avalanching = void;
    size_t operator()(uint64_t hash) const noexcept { return hash; }
  };
  using Nodes =
      boost::intrusive::list<Node, boost::intrusive::member_hook<Node, Order, &Node::order>>;

  static size_t cost(const Node& node);
  static Node* make(std::string_view key, uint64_t hash, const Value& value);
  static void destroy(Node* node);
  static void assign(Node& node, const Value& value);
  Node* lookup(std::string_view key, uint64_t hash) const;
  void add(Node* node);
  void remove(Node* node);
  void replace(Node* old, Node* fresh);
  void shrink();

  const size_t max_bytes_;
  mutable std::mutex mutex_;
  Nodes order_;  // the youngest first
  std::vector<Node*> pinned_;
  // By hash, so that a growing table need not touch the entries; many of them, by the hash's first bits, so that none
  // takes long to grow: at a million entries one table's growing would hold up the loop for as long as 50 ms.
  using Index = boost::unordered_flat_map<uint64_t, Node*, AsItIs>;
  static constexpr int kIndexBits = 8;
  Index& index(uint64_t hash) { return indexes_[hash >> (64 - kIndexBits)]; }
  const Index& index(uint64_t hash) const { return indexes_[hash >> (64 - kIndexBits)]; }
  std::array<Index, size_t{1} << kIndexBits> indexes_;
  size_t bytes_ = 0;
  size_t entries_ = 0;
};

}  // namespace cairn
