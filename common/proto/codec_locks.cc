// Codec: locks of files, and what people ask about who holds what up.
#include "common/proto/codec_locks.h"

#include "common/proto/admin.capnp.h"

namespace cairn {

static void read(wire::LockKind in, LockKind& out) {
  if (in < wire::LockKind::POSIX || in > wire::LockKind::FLOCK) refuse("a kind of lock is unknown");
  out = static_cast<LockKind>(in);
}

static void read(wire::LockMode in, LockMode& out) {
  if (in < wire::LockMode::UNLOCK || in > wire::LockMode::EXCLUSIVE) refuse("a mode of a lock is unknown");
  out = static_cast<LockMode>(in);
}

static void read(wire::RecallKind in, RecallKind& out) {
  if (in < wire::RecallKind::NAME || in > wire::RecallKind::LOCKS_BROKEN) refuse("a kind of recall is unknown");
  out = static_cast<RecallKind>(in);
}

void write(wire::FileLock::Builder out, const FileLock& in) {
  out.setSession(wire_of(in.session));
  out.setOwner(in.owner);
  out.setKind(static_cast<wire::LockKind>(in.kind));
  out.setMode(static_cast<wire::LockMode>(in.mode));
  out.setStart(in.start);
  out.setEnd(in.end);
  out.setPid(in.pid);
}

void read(wire::FileLock::Reader in, FileLock& out) {
  read(in.getSession(), out.session);
  read(in.getOwner(), out.owner);
  read(in.getKind(), out.kind);
  read(in.getMode(), out.mode);
  read(in.getStart(), out.start);
  read(in.getEnd(), out.end);
  read(in.getPid(), out.pid);
}

static void write(wire::TestLockRequest::Builder out, const TestLockRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  write(out.initLock(), in.lock);
}

static void read(wire::TestLockRequest::Reader in, TestLockRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getLock(), out.lock);
}

static void write(wire::TestLockReply::Builder out, const TestLockReply& in) {
  if (in.conflict) write(out.initConflict(), *in.conflict);
}

static void read(wire::TestLockReply::Reader in, TestLockReply& out) {
  if (in.hasConflict()) read(in.getConflict(), out.conflict.emplace());
}

static void write(wire::WaitLockRequest::Builder out, const WaitLockRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  write(out.initLock(), in.lock);
  out.setWait(in.wait);
  out.setPlace(in.place);
}

static void read(wire::WaitLockRequest::Reader in, WaitLockRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getLock(), out.lock);
  read(in.getWait(), out.wait);
  read(in.getPlace(), out.place);
}

static void write(wire::WaitLockReply::Builder out, const WaitLockReply& in) {
  out.setPlace(in.place);
}

static void read(wire::WaitLockReply::Reader in, WaitLockReply& out) {
  read(in.getPlace(), out.place);
}

static void write(wire::CancelWaitRequest::Builder out, const CancelWaitRequest& in) {
  out.setSession(wire_of(in.session));
  out.setWait(in.wait);
}

static void read(wire::CancelWaitRequest::Reader in, CancelWaitRequest& out) {
  read(in.getSession(), out.session);
  read(in.getWait(), out.wait);
}

static void write(wire::SessionName::Builder out, const SessionName& in) {
  out.setSession(wire_of(in.session));
  out.setHost(wire_of(in.host));
  out.setMountpoint(wire_of(in.mountpoint));
}

static void read(wire::SessionName::Reader in, SessionName& out) {
  read(in.getSession(), out.session);
  read(in.getHost(), out.host);
  read(in.getMountpoint(), out.mountpoint);
}

static void write(wire::LockInfo::Builder out, const LockInfo& in) {
  out.setInode(wire_of(in.inode));
  write(out.initLock(), in.lock);
  out.setWaits(in.waits);
}

static void read(wire::LockInfo::Reader in, LockInfo& out) {
  read(in.getInode(), out.inode);
  read(in.getLock(), out.lock);
  read(in.getWaits(), out.waits);
}

static void write(wire::ListLocksRequest::Builder out, const ListLocksRequest& in) {
  out.setInode(wire_of(in.inode));
}

static void read(wire::ListLocksRequest::Reader in, ListLocksRequest& out) {
  read(in.getInode(), out.inode);
}

static void write(wire::ListLocksReply::Builder out, const ListLocksReply& in) {
  write(out.initLocks(count(in.locks)), in.locks);
  write(out.initSessions(count(in.sessions)), in.sessions);
  out.setMore(in.more);
}

static void read(wire::ListLocksReply::Reader in, ListLocksReply& out) {
  read(in.getLocks(), out.locks);
  read(in.getSessions(), out.sessions);
  read(in.getMore(), out.more);
}

static void write(wire::BreakLocksRequest::Builder out, const BreakLocksRequest& in) {
  out.setInode(wire_of(in.inode));
}

static void read(wire::BreakLocksRequest::Reader in, BreakLocksRequest& out) {
  read(in.getInode(), out.inode);
}

static void write(wire::BreakLocksReply::Builder out, const BreakLocksReply& in) {
  write(out.initLocks(count(in.locks)), in.locks);
  write(out.initSessions(count(in.sessions)), in.sessions);
}

static void read(wire::BreakLocksReply::Reader in, BreakLocksReply& out) {
  read(in.getLocks(), out.locks);
  read(in.getSessions(), out.sessions);
}

static void write(wire::LeaseInfo::Builder out, const LeaseInfo& in) {
  out.setSession(wire_of(in.session));
  out.setExclusive(in.exclusive);
  out.setRecalled(in.recalled);
  out.setRecalledMs(in.recalled_ms);
}

static void read(wire::LeaseInfo::Reader in, LeaseInfo& out) {
  read(in.getSession(), out.session);
  read(in.getExclusive(), out.exclusive);
  read(in.getRecalled(), out.recalled);
  read(in.getRecalledMs(), out.recalled_ms);
}

static void write(wire::ChangeInfo::Builder out, const ChangeInfo& in) {
  out.setSession(wire_of(in.session));
  out.setKind(static_cast<wire::RecallKind>(in.kind));
  out.setName(wire_of(in.name));
  out.setUnanswered(in.unanswered);
}

static void read(wire::ChangeInfo::Reader in, ChangeInfo& out) {
  read(in.getSession(), out.session);
  read(in.getKind(), out.kind);
  read(in.getName(), out.name);
  read(in.getUnanswered(), out.unanswered);
}

static void write(wire::WhyRequest::Builder out, const WhyRequest& in) {
  out.setInode(wire_of(in.inode));
}

static void read(wire::WhyRequest::Reader in, WhyRequest& out) {
  read(in.getInode(), out.inode);
}

static void write(wire::WhyReply::Builder out, const WhyReply& in) {
  write(out.initAttributes(), in.attributes);
  write(out.initLeases(count(in.leases)), in.leases);
  write(out.initChanges(count(in.changes)), in.changes);
  write(out.initLocks(count(in.locks)), in.locks);
  out.setLocksAreLocal(in.locks_are_local);
  write(out.initOpen(count(in.open)), in.open);
  write(out.initWriting(count(in.writing)), in.writing);
  write(out.initSessions(count(in.sessions)), in.sessions);
}

static void read(wire::WhyReply::Reader in, WhyReply& out) {
  read(in.getAttributes(), out.attributes);
  read(in.getLeases(), out.leases);
  read(in.getChanges(), out.changes);
  read(in.getLocks(), out.locks);
  read(in.getLocksAreLocal(), out.locks_are_local);
  read(in.getOpen(), out.open);
  read(in.getWriting(), out.writing);
  read(in.getSessions(), out.sessions);
}

CAIRN_LOCK_MESSAGES(CAIRN_DEFINE_CODEC)

}  // namespace cairn
