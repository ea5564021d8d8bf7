// PersistentMap: an ordered map of bytes by bytes whose copies are snapshots, in constant time: copies share their
// nodes, and a change copies only the path to what it changes, and that only while somebody else holds it. A treap
// whose priorities are hashes of the keys, so equal contents give equal shapes.
//
// A map object is for one thread at a time (copying it too); different copies may be used, changed and destroyed on
// different threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cairn {

class PersistentMap {
 public:
  PersistentMap() = default;

  void put(std::string_view key, std::string_view value);
  void erase(std::string_view key);
  // The pointer lives until the map changes or goes away.
  const std::string* find(std::string_view key) const;
  size_t size() const { return size_; }
  // Of all keys and values.
  uint64_t content_bytes() const { return content_bytes_; }

  class Cursor;

 private:
  struct Node;
  // Counts references itself: whether a node is shared must be read with acquire order before it is changed in place,
  // and std::shared_ptr::use_count() does not promise that.
  class NodePtr {
   public:
    NodePtr() = default;
    explicit NodePtr(Node* adopted) : node_(adopted) {}
    NodePtr(const NodePtr& other);
    NodePtr(NodePtr&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
    NodePtr& operator=(NodePtr other) noexcept {
      std::swap(node_, other.node_);
      return *this;
    }
    ~NodePtr();
    Node* get() const { return node_; }
    Node* operator->() const { return node_; }
    explicit operator bool() const { return node_ != nullptr; }

   private:
    Node* node_ = nullptr;
  };
  struct Split {
    NodePtr less;
    NodePtr greater;
  };

  static Node* own(NodePtr& node);
  static void insert(NodePtr& at, Node* fresh);
  static Split split(NodePtr tree, std::string_view key);
  static NodePtr merge(NodePtr less, NodePtr greater);
  static void remove(NodePtr& at, std::string_view key);
  const Node* find_node(std::string_view key) const;

  NodePtr root_;
  size_t size_ = 0;
  uint64_t content_bytes_ = 0;
};

// A position in a snapshot, which it keeps.
class PersistentMap::Cursor {
 public:
  explicit Cursor(PersistentMap snapshot) : map_(std::move(snapshot)) {}
  void seek(std::string_view key);  // the first key >= key
  bool valid() const { return !path_.empty(); }
  void next();
  const std::string& key() const;
  const std::string& value() const;

 private:
  void descend_left(const Node* node);
  PersistentMap map_;
  std::vector<const Node*> path_;  // the current node at the back, before it those that come after it
};

}  // namespace cairn
