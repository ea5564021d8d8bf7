// The operations: one function, in a file of its own, for each kind of MetaOp and of command. Each either does all it says or, answering an
// error, is taken back by its caller (Transaction::rollback). Errors are those of the system call's man page; the VFS's order of checks is kept.
#pragma once

#include "common/base/ids.h"
#include "common/base/result.h"
#include "master/namespace/command.h"
#include "master/namespace/records.h"
#include "master/namespace/transaction.h"

namespace cairn {

struct OpContext {
  Transaction& tx;
  const ClusterRecord& cluster;
  SessionId session;
  FileTime now = 0;
};

// ---------------------------------------------------------------- a session's operations
Result<MutationReply> apply_op(OpContext& op, const CreateOp& create);
Result<MutationReply> apply_op(OpContext& op, const LinkOp& link);
Result<MutationReply> apply_op(OpContext& op, const UnlinkOp& unlink);
Result<MutationReply> apply_op(OpContext& op, const RmdirOp& rmdir);
Result<MutationReply> apply_op(OpContext& op, const RenameOp& rename);
Result<MutationReply> apply_op(OpContext& op, const SetAttributesOp& set);
Result<MutationReply> apply_op(OpContext& op, const SetXattrOp& set);
Result<MutationReply> apply_op(OpContext& op, const RemoveXattrOp& remove);
Result<MutationReply> apply_op(OpContext& op, const CommitOp& commit);
Result<MutationReply> apply_op(OpContext& op, const SetGoalOp& set);
Result<MutationReply> apply_op(OpContext& op, const ReleaseOrphansOp& release);
Result<MutationReply> apply_op(OpContext& op, const GrantChunksOp& grant);
Result<MutationReply> apply_op(OpContext& op, const ReturnChunksOp& give_back);
Result<MutationReply> apply_op(OpContext& op, const SetLockOp& set);
Result<MutationReply> apply_op(OpContext& op, const ReplaceLocksOp& replace);
Result<MutationReply> apply_op(OpContext& op, const ReleaseLocksOp& release);

// ---------------------------------------------------------------- the leader's commands
Reply apply_command(Transaction& tx, const SessionMutation& mutation);
Reply apply_command(Transaction& tx, const MakeCluster& make);
Reply apply_command(Transaction& tx, const RotateKeys& rotate);
Reply apply_command(Transaction& tx, const Tick& tick);
Reply apply_command(Transaction& tx, const OpenSession& open);
Reply apply_command(Transaction& tx, const RenewSessions& renew);
Reply apply_command(Transaction& tx, const EndSession& end);
Reply apply_command(Transaction& tx, const RegisterServer& server);
Reply apply_command(Transaction& tx, const RemoveServer& server);
Reply apply_command(Transaction& tx, const BeginRaise& raise);
Reply apply_command(Transaction& tx, const FinishRaise& raise);
Reply apply_command(Transaction& tx, const AbandonRaise& raise);
Reply apply_command(Transaction& tx, const SealChunk& seal);
Reply apply_command(Transaction& tx, const SetReplicas& set);
Reply apply_command(Transaction& tx, const MarkReplica& mark);
Reply apply_command(Transaction& tx, const MarkReplicas& mark);
Reply apply_command(Transaction& tx, const AddGarbage& add);
Reply apply_command(Transaction& tx, const RemoveGarbage& remove);
Reply apply_command(Transaction& tx, const CloseInodes& close);
Reply apply_command(Transaction& tx, const DropServer& server);
Reply apply_command(Transaction& tx, const BeginRestore& begin);
Reply apply_command(Transaction& tx, const AdoptReplicas& adopt);
Reply apply_command(Transaction& tx, const SettleRestore& settle);
Reply apply_command(Transaction& tx, const AcceptRestore& accept);
Reply apply_command(Transaction& tx, const AttachFound& found);
Reply apply_command(Transaction& tx, const BeginKeptDump& begin);
Reply apply_command(Transaction& tx, const GrantKeptDumpChunk& grant);
Reply apply_command(Transaction& tx, const FinishKeptDump& finish);
Reply apply_command(Transaction& tx, const BreakLocks& locks);

// ---------------------------------------------------------------- shared by several of them
// The session's time is over: nothing of it is accepted any more; the rest is Tick's work.
void end_session(Transaction& tx, SessionId id, SessionRecord session);
// Does work items, at most `budget` records.
void do_work(Transaction& tx, uint32_t budget);
// Clears the set-id bits as a write does: set-user-id always, set-group-id where the group may execute. Not on directories.
void clear_set_id(Attributes& a);
// The goal and min_copies that a cluster's default, or what was asked for, comes to.
struct Goal { uint8_t goal = 0, min_copies = 0; };
Goal resolve_goal(const ClusterRecord& cluster, uint8_t goal, uint8_t min_copies);

}  // namespace cairn
