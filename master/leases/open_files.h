// OpenFiles: which session has which inode open, as the leader knows it: beside the state machine, not in the log. A
// new leader begins with nothing and is told by the sessions (reclaim).
//
// Pure. Not thread-safe; on the loop.
#pragma once

#include <set>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"

namespace cairn {

class OpenFiles {
 public:
  void open(SessionId session, InodeId inode);
  void close(SessionId session, InodeId inode);
  bool has(SessionId session, InodeId inode) const;
  // All of them, ascending, without duplicates.
  std::vector<SessionId> holders(InodeId inode) const;
  uint64_t count(SessionId session) const;
  // All inodes that the session held open when it sent this, said again after a change of leader. Added to what is
  // known of it: a file that it opened or created at this leader while the message was on its way is not in the list.
  void reclaim(SessionId session, const std::vector<InodeId>& inodes);
  // The session has ended: nothing of it is left.
  void end_session(SessionId session);
  void clear();

 private:
  std::unordered_map<InodeId, std::set<SessionId>> open_;
  std::unordered_map<SessionId, std::set<InodeId>> open_by_;
};

}  // namespace cairn
