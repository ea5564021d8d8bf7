// rename and its flags, with the checks in the order of the VFS (do_renameat2, vfs_rename).
#include <utility>

#include "common/base/units.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

// What a rename is about. `other` is the new directory if it is not the old one.
struct Rename {
  InodeRecord old_directory;
  std::optional<InodeRecord> other;
  DentryRecord source_entry;
  std::optional<DentryRecord> target_entry;
  InodeRecord source;
  std::optional<InodeRecord> target;

  InodeRecord& new_directory() { return other ? *other : old_directory; }
  bool source_is_directory() const { return source.attributes.type == FileType::kDirectory; }
  bool target_is_directory() const { return target && target->attributes.type == FileType::kDirectory; }
  bool same_inode() const { return target && target->attributes.inode == source.attributes.inode; }
};

Result<Rename> find_parts(OpContext& op, const RenameOp& rename) {
  Rename r;
  Result<InodeRecord> directory = find_directory(op.tx, rename.parent);
  if (!directory) return directory.error();
  r.old_directory = std::move(*directory);
  if (rename.new_parent != rename.parent) {
    directory = find_directory(op.tx, rename.new_parent);
    if (!directory) return directory.error();
    r.other = std::move(*directory);
  }
  std::optional<DentryRecord> entry = find_entry(op.tx, r.old_directory, rename.name);
  if (!entry) return ErrorCode::kNotFound;
  r.source_entry = *entry;
  r.target_entry = find_entry(op.tx, r.new_directory(), rename.new_name);
  if (r.target_entry && rename.no_replace) return ErrorCode::kExists;
  if (!r.target_entry && rename.exchange) return ErrorCode::kNotFound;

  Result<InodeRecord> inode = find_inode(op.tx, r.source_entry.inode);
  if (!inode) return inode.error();
  r.source = std::move(*inode);
  if (r.target_entry) {
    inode = find_inode(op.tx, r.target_entry->inode);
    if (!inode) return inode.error();
    r.target = std::move(*inode);
  }
  return r;
}

Result<void> check(OpContext& op, const RenameOp& rename, Rename& r) {
  if (r.other) {
    if (r.source_is_directory() && is_within(op.tx, rename.new_parent, r.source.attributes.inode)) {
      return ErrorCode::kInvalid;
    }
    if (r.target_is_directory() && is_within(op.tx, rename.parent, r.target->attributes.inode)) {
      return rename.exchange ? ErrorCode::kInvalid : ErrorCode::kNotEmpty;
    }
  }
  if (r.same_inode()) return {};
  if (r.target && !rename.exchange) {
    if (r.source_is_directory() && !r.target_is_directory()) return ErrorCode::kNotDirectory;
    if (!r.source_is_directory() && r.target_is_directory()) return ErrorCode::kIsDirectory;
    if (r.target_is_directory() && r.target->attributes.size > 0) return ErrorCode::kNotEmpty;
  }
  if (r.other) {
    if (r.source_is_directory() && !r.target_is_directory() && r.other->attributes.nlink >= kMaxLinks) {
      return ErrorCode::kTooManyLinks;
    }
    if (rename.exchange && r.target_is_directory() && !r.source_is_directory() &&
        r.old_directory.attributes.nlink >= kMaxLinks) {
      return ErrorCode::kTooManyLinks;
    }
  }
  return {};
}

// A directory has come under `to`, from under `from`.
void move_directory(InodeRecord& inode, InodeRecord& from, InodeRecord& to) {
  --from.attributes.nlink;
  ++to.attributes.nlink;
  inode.parent = to.attributes.inode;
}

void exchange(OpContext& op, const RenameOp& rename, Rename& r) {
  InodeRecord& to = r.new_directory();
  replace_entry(op.tx, r.old_directory, rename.name, r.source_entry, r.target_entry->inode, r.target_entry->type,
                op.now);
  replace_entry(op.tx, to, rename.new_name, *r.target_entry, r.source_entry.inode, r.source_entry.type, op.now);
  if (r.source_is_directory()) move_directory(r.source, r.old_directory, to);
  if (r.target_is_directory()) move_directory(*r.target, to, r.old_directory);
  touch(r.source, op.now);
  touch(*r.target, op.now);
  op.tx.put_inode(r.source);
  op.tx.put_inode(*r.target);
}

void move(OpContext& op, const RenameOp& rename, Rename& r) {
  InodeRecord& to = r.new_directory();
  remove_entry(op.tx, r.old_directory, rename.name, r.source_entry, op.now);
  if (r.target) {
    replace_entry(op.tx, to, rename.new_name, *r.target_entry, r.source_entry.inode, r.source_entry.type, op.now);
  } else {
    add_entry(op.tx, to, rename.new_name, r.source_entry.inode, r.source_entry.type, op.now);
  }
  if (r.source_is_directory()) move_directory(r.source, r.old_directory, to);
  touch(r.source, op.now);
  op.tx.put_inode(r.source);
  if (r.target_is_directory()) {
    --to.attributes.nlink;
    r.target->attributes.nlink = 0;
    touch(*r.target, op.now);
    remove_inode(op.tx, *r.target);
  } else if (r.target) {
    drop_name(op.tx, *r.target, rename.holders, op.now);
  }
}

}  // namespace

Result<MutationReply> apply_op(OpContext& op, const RenameOp& rename) {
  if (rename.no_replace && rename.exchange) return ErrorCode::kInvalid;
  if (Result<void> named = check_name(rename.name); !named) return named.error();
  if (Result<void> named = check_name(rename.new_name); !named) return named.error();
  Result<Rename> r = find_parts(op, rename);
  if (!r) return r.error();
  if (Result<void> allowed = check(op, rename, *r); !allowed) return allowed.error();

  // Two names of one inode: POSIX wants nothing to happen.
  if (!r->same_inode()) {
    if (rename.exchange) {
      exchange(op, rename, *r);
    } else {
      move(op, rename, *r);
    }
    op.tx.put_inode(r->old_directory);
    if (r->other) op.tx.put_inode(*r->other);
  }

  MutationReply reply;
  reply.attributes = r->source.attributes;
  reply.parent = r->old_directory.attributes;
  reply.new_parent = r->new_directory().attributes;
  if (r->target && !r->same_inode()) reply.replaced = r->target->attributes;
  return reply;
}

}  // namespace cairn
