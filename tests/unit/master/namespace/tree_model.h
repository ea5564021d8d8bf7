// TreeModel: a POSIX tree as plain maps, written from the man pages and not from the machine: what random operations
// are compared with.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>

#include "common/base/error.h"
#include "common/base/units.h"
#include "common/proto/meta_types.h"

namespace cairn {

class TreeModel {
 public:
  struct Chunk {
    ChunkId id;
    uint32_t limit = UINT32_MAX;
  };
  struct Node {
    FileType type = FileType::kRegular;
    uint32_t mode = 0, gid = 0;
    uint64_t links = 0;
    uint64_t size = 0;
    InodeId parent;
    std::string target;
    std::map<std::string, InodeId> entries;
    std::map<std::string, std::string> xattrs;
    std::map<uint32_t, Chunk> chunks;
    std::set<SessionId> holders;
    bool is_directory() const { return type == FileType::kDirectory; }
  };
  static constexpr ErrorCode kOk{};

  TreeModel() { nodes[kRootInode] = {.type = FileType::kDirectory, .mode = 0755, .parent = kRootInode}; }

  std::map<InodeId, Node> nodes;

  uint64_t nlink(InodeId id) const {
    const Node& node = nodes.at(id);
    if (!node.is_directory()) return node.links;
    uint64_t links = 2;
    for (const auto& [name, child] : node.entries)
      links += nodes.at(child).is_directory();
    return links;
  }
  uint64_t chunk_count() const {
    uint64_t count = 0;
    for (const auto& [id, node] : nodes)
      count += node.chunks.size();
    return count;
  }

  // `made` is the number the machine gave.
  ErrorCode create(const CreateOp& op, InodeId made) {
    if (ErrorCode bad = name_error(op.name); bad != kOk) return bad;
    if (ErrorCode bad = directory_error(op.parent); bad != kOk) return bad;
    Node& parent = nodes.at(op.parent);
    if (parent.entries.contains(op.name)) return ErrorCode::kExists;
    const bool set_gid = parent.mode & 02000;
    Node node{.type = op.type, .mode = op.mode, .gid = set_gid ? parent.gid : op.gid, .links = 1, .parent = op.parent};
    if (op.type == FileType::kDirectory && set_gid) node.mode |= 02000;
    if (op.type == FileType::kSymlink) {
      node.mode = 0777;
      node.target = op.symlink_target;
    }
    parent.entries[op.name] = made;
    nodes[made] = node;
    return kOk;
  }

  ErrorCode link(const LinkOp& op) {
    if (ErrorCode bad = name_error(op.new_name); bad != kOk) return bad;
    if (!nodes.contains(op.inode)) return ErrorCode::kStale;
    if (ErrorCode bad = directory_error(op.new_parent); bad != kOk) return bad;
    Node& parent = nodes.at(op.new_parent);
    Node& node = nodes.at(op.inode);
    if (parent.entries.contains(op.new_name)) return ErrorCode::kExists;
    if (node.is_directory()) return ErrorCode::kPermission;
    if (node.links == 0) return ErrorCode::kNotFound;
    ++node.links;
    parent.entries[op.new_name] = op.inode;
    return kOk;
  }

  ErrorCode unlink(const UnlinkOp& op) {
    if (ErrorCode bad = name_error(op.name); bad != kOk) return bad;
    if (ErrorCode bad = directory_error(op.parent); bad != kOk) return bad;
    Node& parent = nodes.at(op.parent);
    auto entry = parent.entries.find(op.name);
    if (entry == parent.entries.end()) return ErrorCode::kNotFound;
    if (nodes.at(entry->second).is_directory()) return ErrorCode::kIsDirectory;
    const InodeId inode = entry->second;
    parent.entries.erase(entry);
    lose_name(inode, op.holders);
    return kOk;
  }

  ErrorCode rmdir(const RmdirOp& op) {
    if (ErrorCode bad = name_error(op.name); bad != kOk) return bad;
    if (ErrorCode bad = directory_error(op.parent); bad != kOk) return bad;
    Node& parent = nodes.at(op.parent);
    auto entry = parent.entries.find(op.name);
    if (entry == parent.entries.end()) return ErrorCode::kNotFound;
    if (!nodes.at(entry->second).is_directory()) return ErrorCode::kNotDirectory;
    if (!nodes.at(entry->second).entries.empty()) return ErrorCode::kNotEmpty;
    nodes.erase(entry->second);
    parent.entries.erase(entry);
    return kOk;
  }

  ErrorCode rename(const RenameOp& op) {
    if (op.no_replace && op.exchange) return ErrorCode::kInvalid;
    for (const std::string& name : {op.name, op.new_name}) {
      if (ErrorCode bad = name_error(name); bad != kOk) return bad;
    }
    for (InodeId directory : {op.parent, op.new_parent}) {
      if (ErrorCode bad = directory_error(directory); bad != kOk) return bad;
    }
    Node& from = nodes.at(op.parent);
    Node& to = nodes.at(op.new_parent);
    if (!from.entries.contains(op.name)) return ErrorCode::kNotFound;
    const InodeId source = from.entries.at(op.name);
    std::optional<InodeId> target;
    if (to.entries.contains(op.new_name)) target = to.entries.at(op.new_name);
    if (target && op.no_replace) return ErrorCode::kExists;
    if (!target && op.exchange) return ErrorCode::kNotFound;
    if (below(op.new_parent, source)) return ErrorCode::kInvalid;
    if (target && below(op.parent, *target)) return op.exchange ? ErrorCode::kInvalid : ErrorCode::kNotEmpty;
    if (target == source) return kOk;
    const bool source_directory = nodes.at(source).is_directory();
    if (op.exchange) {
      from.entries[op.name] = *target;
      to.entries[op.new_name] = source;
      nodes.at(source).parent = op.new_parent;
      nodes.at(*target).parent = op.parent;
      return kOk;
    }
    if (target) {
      const Node& victim = nodes.at(*target);
      if (source_directory && !victim.is_directory()) return ErrorCode::kNotDirectory;
      if (!source_directory && victim.is_directory()) return ErrorCode::kIsDirectory;
      if (!victim.entries.empty()) return ErrorCode::kNotEmpty;
      if (victim.is_directory()) {
        nodes.erase(*target);
      } else {
        lose_name(*target, op.holders);
      }
    }
    from.entries.erase(op.name);
    to.entries[op.new_name] = source;
    nodes.at(source).parent = op.new_parent;
    return kOk;
  }

  ErrorCode resize(InodeId id, uint64_t size) {
    if (!nodes.contains(id)) return ErrorCode::kStale;
    Node& node = nodes.at(id);
    if (node.is_directory()) return ErrorCode::kIsDirectory;
    if (node.type != FileType::kRegular) return ErrorCode::kInvalid;
    for (auto it = node.chunks.begin(); it != node.chunks.end();) {
      const uint64_t start = it->first * kChunkSizeBytes;
      if (start >= size) {
        it = node.chunks.erase(it);
        continue;
      }
      if (size - start < kChunkSizeBytes && size < node.size)
        it->second.limit = std::min<uint32_t>(it->second.limit, size - start);
      ++it;
    }
    node.size = size;
    return kOk;
  }

  // One chunk, granted to the session that commits it.
  ErrorCode commit(InodeId id, uint32_t index, ChunkId chunk, uint64_t end, bool trimmed) {
    if (!nodes.contains(id)) return ErrorCode::kStale;
    Node& node = nodes.at(id);
    if (node.type != FileType::kRegular) return ErrorCode::kInvalid;
    if (auto there = node.chunks.find(index); there != node.chunks.end()) {
      if (there->second.id != chunk) return ErrorCode::kConflict;
      if (trimmed) there->second.limit = UINT32_MAX;
    } else {
      node.chunks[index] = {.id = chunk};
    }
    node.size = std::max(node.size, end);
    return kOk;
  }

  ErrorCode set_xattr(const SetXattrOp& op) {
    if (!nodes.contains(op.inode)) return ErrorCode::kStale;
    std::map<std::string, std::string>& xattrs = nodes.at(op.inode).xattrs;
    if (op.create_only && xattrs.contains(op.name)) return ErrorCode::kExists;
    if (op.replace_only && !xattrs.contains(op.name)) return ErrorCode::kNoData;
    xattrs[op.name] = op.value;
    return kOk;
  }
  ErrorCode remove_xattr(const RemoveXattrOp& op) {
    if (!nodes.contains(op.inode)) return ErrorCode::kStale;
    return nodes.at(op.inode).xattrs.erase(op.name) == 0 ? ErrorCode::kNoData : kOk;
  }

  void release(SessionId session, InodeId id) {
    auto node = nodes.find(id);
    if (node == nodes.end() || node->second.holders.erase(session) == 0) return;
    if (node->second.holders.empty()) nodes.erase(node);
  }

 private:
  static ErrorCode name_error(const std::string& name) {
    if (name.size() > 255) return ErrorCode::kNameTooLong;
    const bool bad = name.empty() || name == "." || name == ".." || name.find('/') != name.npos;
    return bad ? ErrorCode::kInvalid : kOk;
  }
  ErrorCode directory_error(InodeId id) const {
    if (!nodes.contains(id)) return ErrorCode::kStale;
    return nodes.at(id).is_directory() ? kOk : ErrorCode::kNotDirectory;
  }
  // True if `id` is `top` or below it.
  bool below(InodeId id, InodeId top) const {
    for (; id != kRootInode; id = nodes.at(id).parent) {
      if (id == top) return true;
    }
    return top == kRootInode;
  }
  void lose_name(InodeId id, const std::vector<SessionId>& holders) {
    Node& node = nodes.at(id);
    if (--node.links > 0) return;
    node.holders.insert(holders.begin(), holders.end());
    if (holders.empty()) nodes.erase(id);
  }
};

}  // namespace cairn
