#include "master/leases/open_files.h"

namespace cairn {

void OpenFiles::open(SessionId session, InodeId inode) {
  open_[inode].insert(session);
  open_by_[session].insert(inode);
}

void OpenFiles::close(SessionId session, InodeId inode) {
  auto sessions = open_.find(inode);
  if (sessions != open_.end()) {
    sessions->second.erase(session);
    if (sessions->second.empty()) open_.erase(sessions);
  }
  auto inodes = open_by_.find(session);
  if (inodes != open_by_.end()) {
    inodes->second.erase(inode);
    if (inodes->second.empty()) open_by_.erase(inodes);
  }
}

bool OpenFiles::has(SessionId session, InodeId inode) const {
  auto found = open_by_.find(session);
  return found != open_by_.end() && found->second.contains(inode);
}

std::vector<SessionId> OpenFiles::holders(InodeId inode) const {
  auto found = open_.find(inode);
  if (found == open_.end()) return {};
  return {found->second.begin(), found->second.end()};
}

uint64_t OpenFiles::count(SessionId session) const {
  auto found = open_by_.find(session);
  return found == open_by_.end() ? 0 : found->second.size();
}

void OpenFiles::reclaim(SessionId session, const std::vector<InodeId>& inodes) {
  for (InodeId inode : inodes)
    open(session, inode);
}

void OpenFiles::end_session(SessionId session) {
  auto known = open_by_.find(session);
  if (known == open_by_.end()) return;
  std::set<InodeId> before = known->second;
  for (InodeId inode : before)
    close(session, inode);
}

void OpenFiles::clear() {
  open_.clear();
  open_by_.clear();
}

}  // namespace cairn
