// Codec: sessions, and leases that are recalled.
#include "common/proto/codec_wire.h"
#include "common/proto/meta.capnp.h"

namespace cairn {

static void write(wire::Recall::Builder out, const Recall& in) {
  out.setSequence(in.sequence);
  out.setKind(static_cast<wire::RecallKind>(in.kind));
  out.setInode(wire_of(in.inode));
  out.setName(wire_of(in.name));
  out.setCount(in.count);
}

static void read(wire::Recall::Reader in, Recall& out) {
  wire::RecallKind kind = in.getKind();
  if (kind < wire::RecallKind::NAME || kind > wire::RecallKind::LOCKS_BROKEN) refuse("a kind of recall is unknown");
  read(in.getSequence(), out.sequence);
  out.kind = static_cast<RecallKind>(kind);
  read(in.getInode(), out.inode);
  read(in.getName(), out.name);
  read(in.getCount(), out.count);
}

static void write(wire::TakeRecallsRequest::Builder out, const TakeRecallsRequest& in) {
  out.setSession(wire_of(in.session));
  out.setTerm(in.term);
  out.setAfter(in.after);
  out.setAtOnce(in.at_once);
}

static void read(wire::TakeRecallsRequest::Reader in, TakeRecallsRequest& out) {
  read(in.getSession(), out.session);
  read(in.getTerm(), out.term);
  read(in.getAfter(), out.after);
  read(in.getAtOnce(), out.at_once);
}

static void write(wire::TakeRecallsReply::Builder out, const TakeRecallsReply& in) {
  out.setTerm(in.term);
  write(out.initRecalls(count(in.recalls)), in.recalls);
}

static void read(wire::TakeRecallsReply::Reader in, TakeRecallsReply& out) {
  read(in.getTerm(), out.term);
  read(in.getRecalls(), out.recalls);
}

static void write(wire::RecallAnswer::Builder out, const RecallAnswer& in) {
  out.setSequence(in.sequence);
  out.setReturned(in.returned);
}

static void read(wire::RecallAnswer::Reader in, RecallAnswer& out) {
  read(in.getSequence(), out.sequence);
  read(in.getReturned(), out.returned);
}

static void write(wire::AnswerRecallsRequest::Builder out, const AnswerRecallsRequest& in) {
  out.setSession(wire_of(in.session));
  out.setTerm(in.term);
  write(out.initAnswers(count(in.answers)), in.answers);
}

static void read(wire::AnswerRecallsRequest::Reader in, AnswerRecallsRequest& out) {
  read(in.getSession(), out.session);
  read(in.getTerm(), out.term);
  read(in.getAnswers(), out.answers);
}

static void write(wire::ReturnLeasesRequest::Builder out, const ReturnLeasesRequest& in) {
  out.setSession(wire_of(in.session));
  out.setTerm(in.term);
  write(out.initInodes(count(in.inodes)), in.inodes);
  write(out.initLowered(count(in.lowered)), in.lowered);
}

static void read(wire::ReturnLeasesRequest::Reader in, ReturnLeasesRequest& out) {
  read(in.getSession(), out.session);
  read(in.getTerm(), out.term);
  read(in.getInodes(), out.inodes);
  read(in.getLowered(), out.lowered);
}

static void write(wire::LeaseNumberReply::Builder out, const LeaseNumberReply& in) {
  out.setTerm(in.term);
  out.setSequence(in.sequence);
}

static void read(wire::LeaseNumberReply::Reader in, LeaseNumberReply& out) {
  read(in.getTerm(), out.term);
  read(in.getSequence(), out.sequence);
}

static void write(wire::HeldLease::Builder out, const HeldLease& in) {
  out.setInode(wire_of(in.inode));
  out.setExclusive(in.exclusive);
}

static void read(wire::HeldLease::Reader in, HeldLease& out) {
  read(in.getInode(), out.inode);
  read(in.getExclusive(), out.exclusive);
}

static void write(wire::OpenSessionRequest::Builder out, const OpenSessionRequest& in) {
  out.setHost(wire_of(in.host));
  out.setMountpoint(wire_of(in.mountpoint));
  out.setProgram(wire_of(in.program));
}

static void read(wire::OpenSessionRequest::Reader in, OpenSessionRequest& out) {
  read(in.getHost(), out.host);
  read(in.getMountpoint(), out.mountpoint);
  read(in.getProgram(), out.program);
}

static void write(wire::OpenSessionReply::Builder out, const OpenSessionReply& in) {
  out.setSession(wire_of(in.session));
  out.setTerm(in.term);
  out.setDurationMs(in.duration_ms);
  out.setNow(in.now);
  out.setCluster(wire_of(in.cluster));
}

static void read(wire::OpenSessionReply::Reader in, OpenSessionReply& out) {
  read(in.getSession(), out.session);
  read(in.getTerm(), out.term);
  read(in.getDurationMs(), out.duration_ms);
  read(in.getNow(), out.now);
  read(in.getCluster(), out.cluster);
}

static void write(wire::RenewSessionRequest::Builder out, const RenewSessionRequest& in) {
  out.setSession(wire_of(in.session));
  out.setKnownTerm(in.known_term);
  write(out.initOpenInodes(count(in.open_inodes)), in.open_inodes);
  out.setMore(in.more);
  write(out.initLeases(count(in.leases)), in.leases);
  write(out.initUnanswered(count(in.unanswered)), in.unanswered);
}

static void read(wire::RenewSessionRequest::Reader in, RenewSessionRequest& out) {
  read(in.getSession(), out.session);
  read(in.getKnownTerm(), out.known_term);
  read(in.getOpenInodes(), out.open_inodes);
  read(in.getMore(), out.more);
  read(in.getLeases(), out.leases);
  read(in.getUnanswered(), out.unanswered);
}

static void write(wire::RenewSessionReply::Builder out, const RenewSessionReply& in) {
  out.setTerm(in.term);
  out.setDurationMs(in.duration_ms);
  out.setNow(in.now);
  out.setReclaim(in.reclaim);
}

static void read(wire::RenewSessionReply::Reader in, RenewSessionReply& out) {
  read(in.getTerm(), out.term);
  read(in.getDurationMs(), out.duration_ms);
  read(in.getNow(), out.now);
  read(in.getReclaim(), out.reclaim);
}

static void write(wire::CloseSessionRequest::Builder out, const CloseSessionRequest& in) {
  out.setSession(wire_of(in.session));
}

static void read(wire::CloseSessionRequest::Reader in, CloseSessionRequest& out) {
  read(in.getSession(), out.session);
}

CAIRN_LEASE_MESSAGES(CAIRN_DEFINE_CODEC)

}  // namespace cairn
