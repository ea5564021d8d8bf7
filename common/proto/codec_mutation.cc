#include "common/proto/codec_locks.h"

namespace cairn {

static void write(wire::CreateOp::Builder out, const CreateOp& in) {
  out.setParent(wire_of(in.parent));
  out.setName(wire_of(in.name));
  out.setType(wire_of(in.type));
  out.setMode(in.mode);
  out.setUid(in.uid);
  out.setGid(in.gid);
  out.setRdev(in.rdev);
  out.setSymlinkTarget(wire_of(in.symlink_target));
  out.setOpen(in.open);
}

static void read(wire::CreateOp::Reader in, CreateOp& out) {
  read(in.getParent(), out.parent);
  read(in.getName(), out.name);
  read(in.getType(), out.type);
  read(in.getMode(), out.mode);
  read(in.getUid(), out.uid);
  read(in.getGid(), out.gid);
  read(in.getRdev(), out.rdev);
  read(in.getSymlinkTarget(), out.symlink_target);
  read(in.getOpen(), out.open);
}

static void write(wire::LinkOp::Builder out, const LinkOp& in) {
  out.setInode(wire_of(in.inode));
  out.setNewParent(wire_of(in.new_parent));
  out.setNewName(wire_of(in.new_name));
}

static void read(wire::LinkOp::Reader in, LinkOp& out) {
  read(in.getInode(), out.inode);
  read(in.getNewParent(), out.new_parent);
  read(in.getNewName(), out.new_name);
}

static void write(wire::UnlinkOp::Builder out, const UnlinkOp& in) {
  out.setParent(wire_of(in.parent));
  out.setName(wire_of(in.name));
  write(out.initHolders(count(in.holders)), in.holders);
}

static void read(wire::UnlinkOp::Reader in, UnlinkOp& out) {
  read(in.getParent(), out.parent);
  read(in.getName(), out.name);
  read(in.getHolders(), out.holders);
}

static void write(wire::RmdirOp::Builder out, const RmdirOp& in) {
  out.setParent(wire_of(in.parent));
  out.setName(wire_of(in.name));
}

static void read(wire::RmdirOp::Reader in, RmdirOp& out) {
  read(in.getParent(), out.parent);
  read(in.getName(), out.name);
}

static void write(wire::RenameOp::Builder out, const RenameOp& in) {
  out.setParent(wire_of(in.parent));
  out.setName(wire_of(in.name));
  out.setNewParent(wire_of(in.new_parent));
  out.setNewName(wire_of(in.new_name));
  out.setNoReplace(in.no_replace);
  out.setExchange(in.exchange);
  write(out.initHolders(count(in.holders)), in.holders);
}

static void read(wire::RenameOp::Reader in, RenameOp& out) {
  read(in.getParent(), out.parent);
  read(in.getName(), out.name);
  read(in.getNewParent(), out.new_parent);
  read(in.getNewName(), out.new_name);
  read(in.getNoReplace(), out.no_replace);
  read(in.getExchange(), out.exchange);
  read(in.getHolders(), out.holders);
}

static void write(wire::SetAttributesOp::Builder out, const SetAttributesOp& in) {
  out.setInode(wire_of(in.inode));
  out.setHasMode(in.mode.has_value());
  out.setHasUid(in.uid.has_value());
  out.setHasGid(in.gid.has_value());
  out.setHasSize(in.size.has_value());
  out.setHasAtime(in.atime.has_value());
  out.setHasMtime(in.mtime.has_value());
  out.setMode(in.mode.value_or(0));
  out.setUid(in.uid.value_or(0));
  out.setGid(in.gid.value_or(0));
  out.setSize(in.size.value_or(0));
  out.setAtime(in.atime.value_or(0));
  out.setMtime(in.mtime.value_or(0));
  out.setAtimeNow(in.atime_now);
  out.setMtimeNow(in.mtime_now);
  out.setClearSetId(in.clear_set_id);
}

static void read(wire::SetAttributesOp::Reader in, SetAttributesOp& out) {
  read(in.getInode(), out.inode);
  read(in.getHasMode(), in.getMode(), out.mode);
  read(in.getHasUid(), in.getUid(), out.uid);
  read(in.getHasGid(), in.getGid(), out.gid);
  read(in.getHasSize(), in.getSize(), out.size);
  read(in.getHasAtime(), in.getAtime(), out.atime);
  read(in.getHasMtime(), in.getMtime(), out.mtime);
  read(in.getAtimeNow(), out.atime_now);
  read(in.getMtimeNow(), out.mtime_now);
  read(in.getClearSetId(), out.clear_set_id);
}

static void write(wire::SetXattrOp::Builder out, const SetXattrOp& in) {
  out.setInode(wire_of(in.inode));
  out.setName(wire_of(in.name));
  out.setValue(wire_of(in.value));
  out.setCreateOnly(in.create_only);
  out.setReplaceOnly(in.replace_only);
}

static void read(wire::SetXattrOp::Reader in, SetXattrOp& out) {
  read(in.getInode(), out.inode);
  read(in.getName(), out.name);
  read(in.getValue(), out.value);
  read(in.getCreateOnly(), out.create_only);
  read(in.getReplaceOnly(), out.replace_only);
}

static void write(wire::RemoveXattrOp::Builder out, const RemoveXattrOp& in) {
  out.setInode(wire_of(in.inode));
  out.setName(wire_of(in.name));
}

static void read(wire::RemoveXattrOp::Reader in, RemoveXattrOp& out) {
  read(in.getInode(), out.inode);
  read(in.getName(), out.name);
}

static void write(wire::CommitOp::Chunk::Builder out, const CommitOp::Chunk& in) {
  out.setIndex(in.index);
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setAllocatedBytes(in.allocated_bytes);
  out.setTrimmed(in.trimmed);
  out.setLength(in.length);
  out.setSeal(in.seal);
}

static void read(wire::CommitOp::Chunk::Reader in, CommitOp::Chunk& out) {
  read(in.getIndex(), out.index);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getAllocatedBytes(), out.allocated_bytes);
  read(in.getTrimmed(), out.trimmed);
  read(in.getLength(), out.length);
  read(in.getSeal(), out.seal);
}

static void write(wire::CommitOp::Builder out, const CommitOp& in) {
  out.setInode(wire_of(in.inode));
  out.setHasSizeAtLeast(in.size_at_least.has_value());
  out.setSizeAtLeast(in.size_at_least.value_or(0));
  out.setHasMtime(in.mtime.has_value());
  out.setMtime(in.mtime.value_or(0));
  out.setClearSetId(in.clear_set_id);
  write(out.initChunks(count(in.chunks)), in.chunks);
}

static void read(wire::CommitOp::Reader in, CommitOp& out) {
  read(in.getInode(), out.inode);
  read(in.getHasSizeAtLeast(), in.getSizeAtLeast(), out.size_at_least);
  read(in.getHasMtime(), in.getMtime(), out.mtime);
  read(in.getClearSetId(), out.clear_set_id);
  read(in.getChunks(), out.chunks);
}

static void write(wire::SetGoalOp::Builder out, const SetGoalOp& in) {
  out.setInode(wire_of(in.inode));
  out.setGoal(in.goal);
  out.setMinCopies(in.min_copies);
}

static void read(wire::SetGoalOp::Reader in, SetGoalOp& out) {
  read(in.getInode(), out.inode);
  read(in.getGoal(), out.goal);
  read(in.getMinCopies(), out.min_copies);
}

static void write(wire::ReleaseOrphansOp::Builder out, const ReleaseOrphansOp& in) {
  write(out.initInodes(count(in.inodes)), in.inodes);
}

static void read(wire::ReleaseOrphansOp::Reader in, ReleaseOrphansOp& out) {
  read(in.getInodes(), out.inodes);
}

static void write(wire::GrantChunksOp::Builder out, const GrantChunksOp& in) {
  out.setGoal(in.goal);
  out.setMinCopies(in.min_copies);
  write(out.initPlacements(count(in.placements)), in.placements);
  if (!in.avoid.empty()) write(out.initAvoid(count(in.avoid)), in.avoid);
}

static void read(wire::GrantChunksOp::Reader in, GrantChunksOp& out) {
  read(in.getGoal(), out.goal);
  read(in.getMinCopies(), out.min_copies);
  read(in.getPlacements(), out.placements);
  read(in.getAvoid(), out.avoid);
}

static void write(wire::ReturnChunksOp::Builder out, const ReturnChunksOp& in) {
  write(out.initChunks(count(in.chunks)), in.chunks);
}

static void read(wire::ReturnChunksOp::Reader in, ReturnChunksOp& out) {
  read(in.getChunks(), out.chunks);
}

static void write(wire::SetLockOp::Builder out, const SetLockOp& in) {
  out.setInode(wire_of(in.inode));
  write(out.initLock(), in.lock);
}

static void read(wire::SetLockOp::Reader in, SetLockOp& out) {
  read(in.getInode(), out.inode);
  read(in.getLock(), out.lock);
}

static void write(wire::ReplaceLocksOp::Builder out, const ReplaceLocksOp& in) {
  out.setInode(wire_of(in.inode));
  write(out.initLocks(count(in.locks)), in.locks);
}

static void read(wire::ReplaceLocksOp::Reader in, ReplaceLocksOp& out) {
  read(in.getInode(), out.inode);
  read(in.getLocks(), out.locks);
}

static void write(wire::ReleaseLocksOp::Builder out, const ReleaseLocksOp& in) {
  out.setInode(wire_of(in.inode));
  write(out.initOwners(count(in.owners)), in.owners);
}

static void read(wire::ReleaseLocksOp::Reader in, ReleaseLocksOp& out) {
  read(in.getInode(), out.inode);
  read(in.getOwners(), out.owners);
}

namespace {

struct OpWriter {
  wire::MetaOp::Builder out;
  void operator()(const CreateOp& op) { write(out.initCreate(), op); }
  void operator()(const LinkOp& op) { write(out.initLink(), op); }
  void operator()(const UnlinkOp& op) { write(out.initUnlink(), op); }
  void operator()(const RmdirOp& op) { write(out.initRmdir(), op); }
  void operator()(const RenameOp& op) { write(out.initRename(), op); }
  void operator()(const SetAttributesOp& op) { write(out.initSetAttributes(), op); }
  void operator()(const SetXattrOp& op) { write(out.initSetXattr(), op); }
  void operator()(const RemoveXattrOp& op) { write(out.initRemoveXattr(), op); }
  void operator()(const CommitOp& op) { write(out.initCommit(), op); }
  void operator()(const SetGoalOp& op) { write(out.initSetGoal(), op); }
  void operator()(const ReleaseOrphansOp& op) { write(out.initReleaseOrphans(), op); }
  void operator()(const GrantChunksOp& op) { write(out.initGrantChunks(), op); }
  void operator()(const ReturnChunksOp& op) { write(out.initReturnChunks(), op); }
  void operator()(const SetLockOp& op) { write(out.initSetLock(), op); }
  void operator()(const ReplaceLocksOp& op) { write(out.initReplaceLocks(), op); }
  void operator()(const ReleaseLocksOp& op) { write(out.initReleaseLocks(), op); }
};

}  // namespace

static void write(wire::MetaOp::Builder out, const MetaOp& in) {
  std::visit(OpWriter{out}, in);
}

static void read(wire::MetaOp::Reader in, MetaOp& out) {
  switch (in.which()) {
    case wire::MetaOp::CREATE:
      return read(in.getCreate(), out.emplace<CreateOp>());
    case wire::MetaOp::LINK:
      return read(in.getLink(), out.emplace<LinkOp>());
    case wire::MetaOp::UNLINK:
      return read(in.getUnlink(), out.emplace<UnlinkOp>());
    case wire::MetaOp::RMDIR:
      return read(in.getRmdir(), out.emplace<RmdirOp>());
    case wire::MetaOp::RENAME:
      return read(in.getRename(), out.emplace<RenameOp>());
    case wire::MetaOp::SET_ATTRIBUTES:
      return read(in.getSetAttributes(), out.emplace<SetAttributesOp>());
    case wire::MetaOp::SET_XATTR:
      return read(in.getSetXattr(), out.emplace<SetXattrOp>());
    case wire::MetaOp::REMOVE_XATTR:
      return read(in.getRemoveXattr(), out.emplace<RemoveXattrOp>());
    case wire::MetaOp::COMMIT:
      return read(in.getCommit(), out.emplace<CommitOp>());
    case wire::MetaOp::SET_GOAL:
      return read(in.getSetGoal(), out.emplace<SetGoalOp>());
    case wire::MetaOp::RELEASE_ORPHANS:
      return read(in.getReleaseOrphans(), out.emplace<ReleaseOrphansOp>());
    case wire::MetaOp::GRANT_CHUNKS:
      return read(in.getGrantChunks(), out.emplace<GrantChunksOp>());
    case wire::MetaOp::RETURN_CHUNKS:
      return read(in.getReturnChunks(), out.emplace<ReturnChunksOp>());
    case wire::MetaOp::SET_LOCK:
      return read(in.getSetLock(), out.emplace<SetLockOp>());
    case wire::MetaOp::REPLACE_LOCKS:
      return read(in.getReplaceLocks(), out.emplace<ReplaceLocksOp>());
    case wire::MetaOp::RELEASE_LOCKS:
      return read(in.getReleaseLocks(), out.emplace<ReleaseLocksOp>());
    case wire::MetaOp::UNSET:
      break;
  }
  refuse("an operation is missing or unknown");
}

static void write(wire::MutateRequest::Builder out, const MutateRequest& in) {
  out.setSession(wire_of(in.session));
  out.setSequence(in.sequence);
  out.setFirstUnacknowledged(in.first_unacknowledged);
  out.setNow(in.now);
  write(out.initOp(), in.op);
}

static void read(wire::MutateRequest::Reader in, MutateRequest& out) {
  read(in.getSession(), out.session);
  read(in.getSequence(), out.sequence);
  read(in.getFirstUnacknowledged(), out.first_unacknowledged);
  read(in.getNow(), out.now);
  read(in.getOp(), out.op);
}

static void write(wire::MutationReply::Builder out, const MutationReply& in) {
  if (in.attributes != Attributes()) write(out.initAttributes(), in.attributes);
  if (in.parent != Attributes()) write(out.initParent(), in.parent);
  if (in.new_parent != Attributes()) write(out.initNewParent(), in.new_parent);
  if (in.replaced != Attributes()) write(out.initReplaced(), in.replaced);
  write(out.initGrants(count(in.grants)), in.grants);
  write(out.initLease(), in.lease);
  if (in.parent_lease != Lease()) write(out.initParentLease(), in.parent_lease);
  if (in.conflict) write(out.initConflict(), *in.conflict);
  out.setNotLockedElsewhere(!in.locked_elsewhere);
  out.setNotLeasedElsewhere(!in.leased_elsewhere);
}

static void read(wire::MutationReply::Reader in, MutationReply& out) {
  read(in.getAttributes(), out.attributes);
  read(in.getParent(), out.parent);
  read(in.getNewParent(), out.new_parent);
  read(in.getReplaced(), out.replaced);
  read(in.getGrants(), out.grants);
  read(in.getLease(), out.lease);
  read(in.getParentLease(), out.parent_lease);
  if (in.hasConflict()) read(in.getConflict(), out.conflict.emplace());
  out.locked_elsewhere = !in.getNotLockedElsewhere();
  out.leased_elsewhere = !in.getNotLeasedElsewhere();
}

CAIRN_MUTATION_MESSAGES(CAIRN_DEFINE_CODEC)

}  // namespace cairn
