// SharedLeases: what the leader has promised to whom, beside the state machine and not in the log: leases of a second
// on directories and inodes, exclusive leases for writers, and who has which inode open. A new leader starts empty and
// is told again by the sessions (reclaim).
//
// Pure: time (milliseconds of the leader's boot clock) comes as an argument. Not thread-safe; on the loop.
// Bounded: at most `leases_max` entries; when it is full new shared leases are refused (duration 0: this answer only)
// and nothing else changes.
//
// Rules at this stage (recalls come later; they will take the place of waiting for the end):
//  - shared: given for lease_ms, again and again, as long as nobody else holds or waits for the exclusive lease of that
//  inode; then 0.
//  - exclusive: one session at a time; given when no other session holds it. Shared leases that others still have do
//  not stand in its way:
//    readers elsewhere may lag by up to a second (docs/consistency.md). Renewed while used; refused with kWait when
//    another session waits, so that the holder flushes and gives it back. The first in the queue gets it when it is
//    released, or has run out.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/meta_types.h"

namespace cairn {

struct SharedLeasesOptions {
  uint32_t lease_ms = 1000;
  size_t leases_max = 1'000'000;
  uint32_t flush_ms = 10'000;  // a session's time
  uint32_t waiter_ms = 2000;   // a waiter that has not asked again for so long has gone away
  uint32_t unwatch_ms = 60'000;
};

class SharedLeases {
 public:
  explicit SharedLeases(SharedLeasesOptions options = {});

  // A new leader's term: everything from before is void. Exclusive leases of before may still run for one lease time:
  // none is given to anybody before.
  void begin_term(uint64_t term, uint64_t now_ms);

  // For an answer that lets `session` cache the inode's attributes (or the names in the directory): how long. Notes who
  // has it.
  Lease share(SessionId session, InodeId inode, uint64_t now_ms);

  struct Acquired {
    std::optional<Lease> lease;  // given
    uint64_t try_again_ms = 0;   // else: when the present holder's lease runs out at the latest (an absolute time)
  };
  // Asks for the exclusive lease, or asks again: a session that waits keeps its place in the queue.
  Acquired acquire(SessionId session, InodeId inode, uint64_t now_ms);
  // The holder asks for more time. None: another session waits (or it is no longer the holder and somebody else is):
  // flush and release.
  std::optional<Lease> renew(SessionId session, InodeId inode, uint64_t now_ms);
  // True if somebody waits who should be told now.
  bool release(SessionId session, InodeId inode, uint64_t now_ms);
  // The session that holds it exclusively now, if any.
  std::optional<SessionId> holder(InodeId inode, uint64_t now_ms) const;
  // Since when nobody has held it exclusively, as far as it is watched: the first question begins to watch, and a lease
  // that is given ends that. now_ms while somebody holds it. What is not asked about for unwatch_ms is forgotten.
  uint64_t unheld_since(InodeId inode, uint64_t now_ms);
  // The session no longer waits.
  void forget_waiter(SessionId session, InodeId inode);

  // ---- open files
  void open(SessionId session, InodeId inode);
  void close(SessionId session, InodeId inode);
  // All of them, ascending, without duplicates.
  std::vector<SessionId> holders(InodeId inode) const;
  uint64_t open_files(SessionId session) const;
  // All inodes that the session held open when it sent this, said again after a change of leader. Added to what is
  // known of it: a file that it opened or created at this leader while the message was on its way is not in the list.
  void reclaim(SessionId session, const std::vector<InodeId>& inodes);

  // The session has ended: nothing of it is left. True if somebody waited for what it held.
  bool end_session(SessionId session);
  // Entries whose time is over go away; call it about once a second.
  void expire(uint64_t now_ms);

  size_t size() const;

 private:
  struct Exclusive {
    SessionId holder;
    uint64_t until_ms = 0;
    uint64_t refused_since_ms = 0;  // the first time that more was refused to the holder; 0: never
    struct Waiter {
      SessionId session;
      uint64_t asked_ms = 0;
    };
    std::deque<Waiter> waiters;
  };
  void drop_silent_waiters(Exclusive& exclusive, uint64_t now_ms) const;
  Lease lease_of(uint32_t duration_ms);

  SharedLeasesOptions options_;
  uint64_t term_ = 0;
  uint64_t sequence_ = 0;
  uint64_t not_before_ms_ = 0;
  std::unordered_map<InodeId, Exclusive> exclusive_;
  struct Watched {
    uint64_t since_ms = 0;
    uint64_t asked_ms = 0;
  };
  std::unordered_map<InodeId, Watched> unheld_;
  std::unordered_map<InodeId, std::map<SessionId, uint64_t>> shared_;  // until
  size_t shared_count_ = 0;
  std::unordered_map<InodeId, std::set<SessionId>> open_;
  std::unordered_map<SessionId, std::set<InodeId>> open_by_;
};

}  // namespace cairn
