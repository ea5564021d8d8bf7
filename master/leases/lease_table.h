// LeaseTable: what the leader has promised to whom, beside the state machine and not in the log
// (docs/decisions/007-recalls.md). Who holds which inode shared or exclusively, what is being changed, and which
// recalls have not been answered.
//
// Pure: no clock, no I/O, no waiting; its user (service/recall_desk) delivers recalls and waits for answers. Not
// thread-safe; on the loop. Bounded: at `leases_max` shared leases nobody gets more, and the session with most is asked
// to give some back.
//
// Memory: a shared lease costs about 24 bytes in the list of its inode; see bench/micro/leases_bench for what 10,000
// sessions with 1,000 leases each take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/meta_types.h"

namespace cairn {

struct LeaseTableOptions {
  size_t leases_max = 10'000'000;
  size_t session_max = 1'000'000;  // of one session
};

// What a change touches.
struct Touched {
  InodeId inode;
  RecallKind kind = RecallKind::kAttributes;  // kName, kAttributes, kContent, or kWriter (an exclusive lease is wanted)
  std::string name;                           // kName
};

using ChangeId = uint64_t;

class LeaseTable {
 public:
  explicit LeaseTable(LeaseTableOptions options = {});
  ~LeaseTable();

  // A new leader's term: nothing is held, the counter begins anew.
  void begin_term(uint64_t term);
  uint64_t term() const;

  // ---- reads
  // Before the state is looked at.
  uint64_t mark() const;
  // With the answer: a shared lease, or one of duration 0 if what was read may have changed since `mark`, is being
  // changed, is held exclusively by somebody else, or the table is full. `may_hold`: the session can be recalled from
  // (a mount). duration_ms is 1 where a lease is given: it lasts as long as the session.
  Lease share(SessionId session, InodeId inode, uint64_t mark, bool may_hold);
  // Who holds it exclusively.
  std::optional<SessionId> writer(InodeId inode) const;
  bool holds(SessionId session, InodeId inode) const;  // in any way

  // ---- changes
  // From now on nobody gets a lease on what is touched, until end_change(). Several changes of one object may be under
  // way at the same time.
  ChangeId begin_change(SessionId by, std::vector<Touched> touched);
  // Who has to be asked now, and what: each becomes a pending recall. Empty: nobody (any more). Called again after the
  // answers, because a lease may have been given meanwhile only to `by`; so twice is enough.
  struct Asked {
    SessionId session;
    Recall recall;
  };
  std::vector<Asked> recalls_for(ChangeId change);
  // The answer of a session; what it held is changed as the recall's kind says. False: no such recall is pending (late,
  // doubled, or never asked): nothing happens.
  bool answered(SessionId session, const RecallAnswer& answer);
  // Recalls of this change that are not answered.
  size_t pending(ChangeId change) const;
  // Leases for the one who asked, with the state as it is right after the change; before end_change(). Duration 0 if
  // somebody else is changing it, too.
  Lease share_changed(ChangeId change, InodeId inode, bool may_hold);
  void end_change(ChangeId change);

  // ---- exclusive
  // After a change with kWriter, when nothing is pending: the session has it. Its shared lease is part of it.
  Lease make_exclusive(ChangeId change, SessionId session, InodeId inode);
  // Of something that nobody else can know yet (just created).
  Lease make_exclusive_new(SessionId session, InodeId inode);
  // A reader wants to see what the writer has: the recall for it (kReader), or none if nobody else holds it
  // exclusively, or it has been asked already (wait for that one: reader_pending()).
  std::optional<Asked> recall_for_reader(InodeId inode, SessionId reader);
  bool reader_pending(InodeId inode) const;
  // The holder lowers it to shared, or gives it back.
  void lower(SessionId session, InodeId inode, bool keep_shared);

  // ---- sessions
  // Said again after a change of leader. Wrong claims are refused: exclusive where somebody else has anything, shared
  // where somebody has it exclusively (kConflict: the session has to be ended).
  Result<void> reclaim(SessionId session, const std::vector<HeldLease>& leases);
  void give_back(SessionId session, const std::vector<InodeId>& inodes);
  // Nothing of it is left; its pending recalls count as answered.
  void end_session(SessionId session);
  // Pending recalls of the session with a higher number, ascending: what it has to be told.
  std::vector<Recall> pending_of(SessionId session, uint64_t after) const;
  // A session that has too many leases, or the one with most when all have too many together: to be asked for some.
  std::optional<Asked> greediest();

  // ---- for people and metrics
  struct Holder {
    SessionId session;
    bool exclusive = false;
    bool recalled = false;  // and has not answered
  };
  std::vector<Holder> holders(InodeId inode) const;
  size_t shared_count() const;
  size_t exclusive_count() const;
  size_t shared_of(SessionId session) const;
};

}  // namespace cairn
