// MetaService: what clients ask of the master (methods 1 to 24): checks the session, decides what a leader decides
// (holders of open files, servers for new chunks), proposes or reads, and adds leases to the answers.
//
// Loop thread only. The RpcServer is stopped before it goes.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/rpc/rpc_typed.h"
#include "common/runtime/sync.h"
#include "master/service/chunk_keeper.h"
#include "master/service/core.h"
#include "master/service/keyed_locks.h"
#include "master/service/recall_desk.h"
#include "master/service/session_desk.h"

namespace cairn {

class MetaService {
 public:
  MetaService(MasterCore& core, SessionDesk::Kept kept, SessionDesk& sessions, ChunkKeeper& keeper);
  void add_handlers(RpcServer& server);

 private:
  Task<Result<OpenSessionReply>> open_session(OpenSessionRequest request, RpcRequest rpc);
  Task<Result<RenewSessionReply>> renew_session(RenewSessionRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> close_session(CloseSessionRequest request, RpcRequest rpc);

  Task<Result<TakeRecallsReply>> take_recalls(TakeRecallsRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> answer_recalls(AnswerRecallsRequest request, RpcRequest rpc);
  Task<Result<LeaseNumberReply>> return_leases(ReturnLeasesRequest request, RpcRequest rpc);

  Task<Result<MutationReply>> mutate(MutateRequest request, RpcRequest rpc);

  Task<Result<EntryReply>> lookup(LookupRequest request, RpcRequest rpc);
  Task<Result<AttributesReply>> get_attributes(GetAttributesRequest request, RpcRequest rpc);
  Task<Result<AttributesReply>> open(OpenRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> close(CloseRequest request, RpcRequest rpc);
  Task<Result<RefreshReply>> refresh(RefreshRequest request, RpcRequest rpc);
  Task<Result<ReadDirectoryReply>> read_directory(ReadDirectoryRequest request, RpcRequest rpc);
  Task<Result<ReadLinkReply>> read_link(ReadLinkRequest request, RpcRequest rpc);
  Task<Result<GetXattrReply>> get_xattr(GetXattrRequest request, RpcRequest rpc);
  Task<Result<ListXattrReply>> list_xattr(ListXattrRequest request, RpcRequest rpc);
  Task<Result<StatFsReply>> stat_fs(StatFsRequest request, RpcRequest rpc);

  Task<Result<GetLayoutReply>> get_layout(GetLayoutRequest request, RpcRequest rpc);
  Task<Result<WriteLeaseReply>> write_lease(WriteLeaseRequest request, RpcRequest rpc);
  Task<Result<LeaseNumberReply>> release_write_lease(ReleaseWriteLeaseRequest request, RpcRequest rpc);
  Task<Result<OpenChunkReply>> open_chunk(OpenChunkRequest request, RpcRequest rpc);
  Task<Result<OpenChunkReply>> replica_failed(ReplicaFailedRequest request, RpcRequest rpc);
  Task<Result<ChunkGrant>> renew_grant(RenewGrantRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> report_bad_replica(ReportBadReplicaRequest request, RpcRequest rpc);

  Task<Result<TestLockReply>> test_lock(TestLockRequest request, RpcRequest rpc);
  Task<Result<WaitLockReply>> wait_lock(WaitLockRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> cancel_wait(CancelWaitRequest request, RpcRequest rpc);

  // Leading, and the session is there.
  Result<void> ready(SessionId session) const;
  // Likewise, when a request has just arrived.
  Result<void> ready(SessionId session, const RpcRequest& rpc);
  Task<Result<Attributes>> attributes_of(InodeId inode);
  // As somebody sees them who asks for this inode itself: with what another session has written under its exclusive
  // lease. `mark` is from before the look.
  struct Seen {
    Attributes attributes;
    LeaseTable::Mark mark;
  };
  Task<Result<Seen>> written_attributes(SessionId session, InodeId inode, TimePoint deadline);
  Lease share(SessionId session, const Attributes& attributes, LeaseTable::Mark mark, bool may_hold);
  Task<Result<Lease>> acquire_write_lease(SessionId session, InodeId inode, TimePoint deadline);

  // ---- meta_mutations.cc
  using Name = std::pair<InodeId, std::string>;
  // What an operation needs before it is proposed. It is let go in the opposite order.
  struct Prepared {
    KeyedLocks<Name>::Holds names;
    KeyedLocks<InodeId>::Holds inodes;
    RecallDesk::Change change;
    LockDesk::Interest lock;
  };
  // A name that is being created, removed or renamed, and an inode that is being changed, have one operation at a time,
  // so that what the leader finds out about them still holds when the command is applied.
  Task<Result<void>> prepare(MutateRequest& request, Prepared& prepared, InodeId& losing, TimePoint deadline);
  // Nobody but the master decides this inode's locks when it is done, until `prepared` goes.
  Task<Result<void>> prepare_lock(SessionId session, InodeId inode, Prepared& prepared, TimePoint deadline);
  bool sets_locks(SessionId session, const MetaOp& op) const;
  void finish_lock(SessionId session, InodeId inode, MutationReply& reply);
  bool goes_first(SessionId session, const MetaOp& op, InodeId inode) const;
  Task<Result<void>> lock_inodes(std::vector<InodeId> inodes, Prepared& prepared, TimePoint deadline);
  // Adds the inodes that the operation touches to the names; `losing`: one that may be about to lose its last name.
  Task<Result<void>> find_touched(SessionId session, const MetaOp& op, std::vector<Touched>& touched, InodeId& losing);
  Task<Result<void>> find_moved(const RenameOp& op, std::vector<Touched>& touched, InodeId& losing);
  Task<Result<Attributes>> entry_of(InodeId parent, std::string name);
  // Its holders go into the command, and opens wait for the outcome.
  Task<Result<void>> wait_removed(InodeId inode, TimePoint deadline);
  // Until the session's last close of the file is done, if it is under way.
  Task<Result<void>> wait_closed(SessionId session, InodeId inode, TimePoint deadline);
  Task<Result<void>> release_orphans(CloseInodes command);
  void hold_for_removal(InodeId inode, MetaOp& op);
  void removal_over(InodeId inode);
  void finish(const MutateRequest& request, ChangeId change, MutationReply& reply);

  MasterCore& core_;
  LeaseTable& leases_;
  OpenFiles& open_files_;
  UnheldFiles& unheld_;
  RecallDesk& recalls_;
  LockDesk& locks_;
  SessionDesk& sessions_;
  ChunkKeeper& keeper_;
  KeyedLocks<Name> names_;
  KeyedLocks<InodeId> inodes_;
  std::map<InodeId, uint32_t> removing_;  // inode, and how many operations are about to take a name from it
  std::multiset<std::pair<SessionId, InodeId>> closing_;  // orphans that are about to lose the session as a holder
  Condition removed_;                                     // an inode has left one of the two
};

}  // namespace cairn
