// LeaseTable: what the leader has promised to whom, beside the state machine and not in the log
// (docs/decisions/007-recalls.md). Who holds which inode shared or exclusively, what is being changed, and which
// recalls have not been answered.
//
// Pure: no clock, no I/O, no waiting; its user (service/recall_desk) delivers recalls and waits for answers. Not
// thread-safe; on the loop. Bounded: at `leases_max` shared leases nobody gets more, and the session with most is asked
// to give some back.
//
// Memory: a lease is 8 bytes in the set of its session, and a slot of 16 in the table of inodes (or 4 in the list of an
// inode that several hold); with the tables' free places about 45 bytes. bench/micro/leases_bench measures it for
// 10,000 sessions with 1,000 leases each.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>
#include <boost/unordered/unordered_flat_set.hpp>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/proto/meta_types.h"

namespace cairn {

struct LeaseTableOptions {
  size_t leases_max = 10'000'000;
  size_t session_max = 1'000'000;  // of one session
  size_t slots = 64 * 1024;        // for marks; a power of two
};

// What a change touches.
struct Touched {
  InodeId inode;
  RecallKind kind = RecallKind::kAttributes;  // kName, kAttributes, kContent, or kWriter (an exclusive lease is wanted)
  std::string name;                           // kName

  bool operator==(const Touched&) const = default;
};

using ChangeId = uint64_t;

class LeaseTable {
 public:
  explicit LeaseTable(LeaseTableOptions options = {});
  ~LeaseTable();
  LeaseTable(const LeaseTable&) = delete;
  LeaseTable& operator=(const LeaseTable&) = delete;

  // A new leader's term: nothing is held, nothing is pending, the counter begins anew. Changes of before are unknown
  // from then on; ending them does nothing.
  void begin_term(uint64_t term);
  uint64_t term() const { return term_; }

  // ---- reads
  // Before the state is looked at.
  struct Mark {
    uint64_t term = 0;
    uint64_t at = 0;
  };
  Mark mark() const { return {term_, sequence_}; }
  // With the answer: a shared lease, or one of duration 0 if what was read may have changed since `mark`, is being
  // changed, is or was meanwhile held exclusively by somebody else, is what this session has been asked about and has
  // not answered (its answer must not take away what it is given now), or the table is full. `may_hold`: the session
  // can be recalled from (a mount). duration_ms is 1 where a lease is given: it lasts as long as the session.
  Lease share(SessionId session, InodeId inode, Mark mark, bool may_hold);
  // Who holds it exclusively.
  std::optional<SessionId> writer(InodeId inode) const;
  bool holds(SessionId session, InodeId inode) const;  // in any way

  // ---- changes
  // From now on nobody gets a lease on what is touched, until end_change(). Several changes of one object may be under
  // way at the same time.
  ChangeId begin_change(SessionId by, std::vector<Touched> touched);
  // Who has to be asked now, and what: each becomes a pending recall. Empty: nobody (any more). To be called again when
  // all have answered, until it is empty: whoever holds something exclusively is first asked to keep it shared (its
  // size and times are committed before somebody else changes it), and then to forget it.
  struct Asked {
    SessionId session;
    Recall recall;
  };
  std::vector<Asked> recalls_for(ChangeId change);
  // The answer of a session; what it held is changed as the recall's kind says.
  struct Answered {
    bool known = false;     // else no such recall is pending (late, doubled, or never asked): nothing has happened
    ChangeId complete = 0;  // a change that had to wait for this one last
  };
  Answered answered(SessionId session, const RecallAnswer& answer);
  // This session has been asked about this inode, and has not answered.
  bool recalled(SessionId session, InodeId inode) const;
  // Likewise, and it was asked for all that it has of the inode.
  bool asked_for_all(SessionId session, InodeId inode) const;
  // Recalls of this change that are not answered.
  size_t pending(ChangeId change) const;
  // Nobody else changes this inode now. What was said about it is up to date then, and an exclusive lease may be given.
  bool alone(ChangeId change, InodeId inode) const;
  // Leases for the one who asked, with the state as it is right after the change; before end_change(). Duration 0 if
  // another session has changed it, too, since this change began: which of the two was later is not known here. (Of two
  // changes by one session that session sees which is later by Attributes::change.) Of what this change did not touch,
  // as share() with a mark from its beginning.
  Lease share_changed(ChangeId change, InodeId inode, bool may_hold);
  // Its recalls stay pending: they have to be answered all the same.
  void end_change(ChangeId change);

  // ---- exclusive
  // After a change with kWriter, when nothing is pending and it is alone(): the session has it. Its shared lease is
  // part of it. Duration 0: somebody else has something, the session has not answered a recall of it, or has too many.
  Lease make_exclusive(ChangeId change, SessionId session, InodeId inode);
  // Of something that has just been created. Duration 0: somebody else has seen it already.
  Lease make_exclusive_new(SessionId session, InodeId inode);
  // A number for a lease that the session has. Duration 0: it has not, or is asked to give it back.
  Lease exclusive_of(SessionId session, InodeId inode);
  // A reader wants to see what the writer has: the recall for it (kReader), or none if nobody else holds it
  // exclusively, or it has been asked already (wait for that one: reader_pending()).
  std::optional<Asked> recall_for_reader(InodeId inode, SessionId reader);
  bool reader_pending(InodeId inode) const;
  // The holder lowers it to shared, or gives it back. False: it does not hold it exclusively.
  bool lower(SessionId session, InodeId inode, bool keep_shared);

  // ---- sessions
  // Said again after a change of leader. Wrong claims are refused: exclusive where somebody else has anything, shared
  // where somebody has it exclusively, more than a session may have (kConflict: the session has to be ended; what was
  // claimed before the wrong one stays until then).
  Result<void> reclaim(SessionId session, const std::vector<HeldLease>& leases);
  // What the session has to be told of: its locks on the inode were taken away. No lease changes with its answer.
  Asked locks_broken(SessionId session, InodeId inode);
  // Shared leases only; what is held exclusively, or not at all, stays as it is. Grants up to mark() are over then.
  void give_back(SessionId session, const std::vector<InodeId>& inodes);
  // Nothing of it is left; its pending recalls count as answered. Gives the changes that waited for it last.
  std::vector<ChangeId> end_session(SessionId session);
  // Pending recalls of the session with a higher number, ascending, at most `count`: what it has to be told.
  std::vector<Recall> pending_of(SessionId session, uint64_t after, size_t count = SIZE_MAX) const;
  // Of those the one that was asked first. 0: none.
  uint64_t oldest_pending(SessionId session) const;
  // A session that has too many leases, or the one with most when all have too many together: to be asked for some. A
  // session that has been asked is not asked again before it has answered.
  std::optional<Asked> greediest();

  // ---- for people and metrics
  struct Holder {
    SessionId session;
    bool exclusive = false;
    bool recalled = false;  // and has not answered

    bool operator==(const Holder&) const = default;
  };
  std::vector<Holder> holders(InodeId inode) const;  // by session
  // The first number of a recall of the inode that the session has not answered. 0: none.
  uint64_t oldest_pending(SessionId session, InodeId inode) const;
  struct Changing {
    SessionId by;
    Touched touched;
    size_t pending = 0;  // recalls of the whole change that are not answered

    bool operator==(const Changing&) const = default;
  };
  std::vector<Changing> changing(InodeId inode) const;  // in the order in which they began
  size_t shared_count() const { return shared_count_; }
  size_t exclusive_count() const { return exclusive_.size(); }
  size_t shared_of(SessionId session) const;
  size_t exclusive_of(SessionId session) const;
  size_t pending_of(SessionId session) const;

 private:
  template <class Key, class Value>
  using FlatMap = boost::unordered_flat_map<Key, Value, std::hash<Key>>;
  struct Pending {
    Recall recall;
    ChangeId change = 0;  // 0: of no change
  };
  struct Session {
    SessionId id;
    uint32_t number = 0;  // in sessions_: what the lists of inodes hold
    boost::unordered_flat_set<InodeId, std::hash<InodeId>> shared;
    std::set<InodeId> exclusive;
    std::map<uint64_t, Pending> pending;
    bool asked_to_give = false;

    bool unused() const { return shared.empty() && exclusive.empty() && pending.empty(); }
  };
  struct Change {
    SessionId by;
    std::vector<Touched> touched;
    uint64_t began = 0;
    size_t pending = 0;
    std::set<std::pair<SessionId, size_t>> told;  // who has forgotten which of `touched`, or is asked to
  };
  // Who holds an inode shared: the number of a session, or of a list of them.
  struct Sharers {
    uint32_t number = 0;
    bool is_list = false;
  };
  // The last moments when something under this hash was changed: by the last session, and by any other before.
  struct Slot {
    uint64_t last = 0;
    uint64_t last_other = 0;
    SessionId who;
  };

  Session& session_of(SessionId session);
  Session* find_session(SessionId session);
  const Session* find_session(SessionId session) const;
  void drop_if_unused(Session& session);
  const std::vector<uint32_t>* list_of(const Sharers& sharers) const;
  std::vector<SessionId> sharers_of(InodeId inode) const;
  bool others_share(SessionId session, InodeId inode) const;
  void add_shared(Session& session, InodeId inode);
  void remove_shared(Session& session, InodeId inode);
  Lease give_exclusive(Session& session, InodeId inode);
  size_t slot_index(InodeId inode) const;
  void touch(InodeId inode, SessionId by);
  bool touched_since(InodeId inode, uint64_t at) const;
  bool touched_by_others_since(InodeId inode, SessionId session, uint64_t at) const;
  Lease lease(bool given);
  void end_exclusive(Session& session, InodeId inode);
  Recall& add_pending(Session& session, ChangeId change, RecallKind kind, InodeId inode);
  void ask_sharer(Change& change, ChangeId id, size_t index, SessionId holder, std::vector<Asked>& out);
  void ask_writer(Change& change, ChangeId id, size_t index, SessionId holder, std::vector<Asked>& out);
  ChangeId one_less_pending(ChangeId change);

  LeaseTableOptions options_;
  uint64_t term_ = 0;
  uint64_t sequence_ = 0;
  uint64_t last_change_ = 0;  // never begins anew: a change of before is not taken for one of now
  size_t shared_count_ = 0;
  std::vector<Slot> slots_;
  FlatMap<InodeId, Sharers> shared_;
  std::vector<std::vector<uint32_t>> lists_;
  std::vector<uint32_t> free_lists_;
  FlatMap<InodeId, SessionId> exclusive_;
  FlatMap<SessionId, uint32_t> numbers_;
  std::vector<std::unique_ptr<Session>> sessions_;  // by number; null: free
  std::vector<uint32_t> free_numbers_;
  std::map<ChangeId, Change> changes_;
  FlatMap<InodeId, std::vector<ChangeId>> changing_;
};

}  // namespace cairn
