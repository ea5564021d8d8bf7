#include "common/kv/persistent_map.h"

#include <atomic>
#include <functional>
#include <memory>

#include "common/base/check.h"

namespace cairn {

struct PersistentMap::Node {
  struct Entry {
    std::string key;
    std::string value;
  };
  Node(uint64_t priority_in, std::shared_ptr<const Entry> entry_in)
      : priority(priority_in), entry(std::move(entry_in)) {}

  std::atomic<uint32_t> references = 1;
  uint64_t priority;
  NodePtr left;
  NodePtr right;
  std::shared_ptr<const Entry> entry;  // shared by the copies of this node

  std::string_view key() const { return entry->key; }
};

PersistentMap::NodePtr::NodePtr(const NodePtr& other) : node_(other.node_) {
  if (node_) node_->references.fetch_add(1, std::memory_order_relaxed);
}

PersistentMap::NodePtr::~NodePtr() {
  if (node_ && node_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete node_;
}

// The node behind `node`, to be changed in place: itself, or a copy if somebody else holds it. Callers hold the whole
// path from the root alone, so a count of one means that nobody can get at the node.
PersistentMap::Node* PersistentMap::own(NodePtr& node) {
  if (node->references.load(std::memory_order_acquire) != 1) {
    auto copy = std::make_unique<Node>(node->priority, node->entry);
    copy->left = node->left;
    copy->right = node->right;
    node = NodePtr(copy.release());
  }
  return node.get();
}

void PersistentMap::put(std::string_view key, std::string_view value) {
  const Node* old = find_node(key);
  if (old) {
    content_bytes_ -= old->entry->value.size();
  } else {
    size_++;
    content_bytes_ += key.size();
  }
  content_bytes_ += value.size();
  auto entry = std::make_shared<Node::Entry>(std::string(key), std::string(value));
  // The finaliser of splitmix64 over the library's hash: heights are those of a random treap.
  uint64_t priority = std::hash<std::string_view>()(key);
  priority = (priority ^ (priority >> 30)) * 0xbf58476d1ce4e5b9ull;
  priority = (priority ^ (priority >> 27)) * 0x94d049bb133111ebull;
  insert(root_, new Node(priority, std::move(entry)));
}

void PersistentMap::erase(std::string_view key) {
  const Node* old = find_node(key);
  if (!old) return;
  size_--;
  content_bytes_ -= old->entry->key.size() + old->entry->value.size();
  remove(root_, key);
}

// Takes `fresh`. A key that is there already has the same priority, so it is met before a lower one.
void PersistentMap::insert(NodePtr& at, Node* fresh) {
  if (!at) {
    at = NodePtr(fresh);
    return;
  }
  if (fresh->priority > at->priority) {
    Split parts = split(std::move(at), fresh->key());
    fresh->left = std::move(parts.less);
    fresh->right = std::move(parts.greater);
    at = NodePtr(fresh);
    return;
  }
  Node* node = own(at);
  if (fresh->key() == node->key()) {
    node->entry = std::move(fresh->entry);
    delete fresh;
    return;
  }
  insert(fresh->key() < node->key() ? node->left : node->right, fresh);
}

PersistentMap::Split PersistentMap::split(NodePtr tree, std::string_view key) {
  if (!tree) return {};
  Node* node = own(tree);
  if (node->key() < key) {
    Split parts = split(std::move(node->right), key);
    node->right = std::move(parts.less);
    return {std::move(tree), std::move(parts.greater)};
  }
  Split parts = split(std::move(node->left), key);
  node->left = std::move(parts.greater);
  return {std::move(parts.less), std::move(tree)};
}

PersistentMap::NodePtr PersistentMap::merge(NodePtr less, NodePtr greater) {
  if (!less) return greater;
  if (!greater) return less;
  if (less->priority >= greater->priority) {
    Node* node = own(less);
    node->right = merge(std::move(node->right), std::move(greater));
    return less;
  }
  Node* node = own(greater);
  node->left = merge(std::move(less), std::move(node->left));
  return greater;
}

void PersistentMap::remove(NodePtr& at, std::string_view key) {
  Node* node = own(at);
  if (key == node->key()) {
    NodePtr less = std::move(node->left);
    NodePtr greater = std::move(node->right);
    at = merge(std::move(less), std::move(greater));
    return;
  }
  remove(key < node->key() ? node->left : node->right, key);
}

const PersistentMap::Node* PersistentMap::find_node(std::string_view key) const {
  const Node* node = root_.get();
  while (node && node->key() != key)
    node = (key < node->key() ? node->left : node->right).get();
  return node;
}

const std::string* PersistentMap::find(std::string_view key) const {
  const Node* node = find_node(key);
  return node ? &node->entry->value : nullptr;
}

void PersistentMap::Cursor::descend_left(const Node* node) {
  for (; node; node = node->left.get())
    path_.push_back(node);
}

void PersistentMap::Cursor::seek(std::string_view key) {
  path_.clear();
  const Node* node = map_.root_.get();
  while (node) {
    if (node->key() < key) {
      node = node->right.get();
    } else {
      path_.push_back(node);
      node = node->left.get();
    }
  }
}

void PersistentMap::Cursor::next() {
  CHECK(valid());
  const Node* node = path_.back();
  path_.pop_back();
  descend_left(node->right.get());
}

const std::string& PersistentMap::Cursor::key() const {
  CHECK(valid());
  return path_.back()->entry->key;
}
const std::string& PersistentMap::Cursor::value() const {
  CHECK(valid());
  return path_.back()->entry->value;
}

}  // namespace cairn
