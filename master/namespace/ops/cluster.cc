// The cluster as a whole: made once, its keys changed daily.
#include <algorithm>

#include "master/namespace/ops/ops.h"

namespace cairn {

static Result<void> check(const MakeCluster& make) {
  const bool valid = make.cluster && make.default_goal >= 1 && make.default_goal <= kMaxGoal &&
                     make.default_min_copies >= 1 && make.session_ms > 0;
  if (!valid) return Error(ErrorCode::kInvalid, "cluster id, goal 1..9, min_copies and session time must be given");
  return {};
}

Reply apply_command(Transaction& tx, const MakeCluster& make) {
  if (tx.cluster()) return ErrorCode::kExists;
  if (Result<void> valid = check(make); !valid) return valid.error();
  ClusterRecord cluster{.cluster = make.cluster,
                        .expected_servers = make.expected_servers,
                        .default_goal = make.default_goal,
                        .default_min_copies = std::min(make.default_min_copies, make.default_goal),
                        .session_ms = make.session_ms,
                        .delete_grace_ms = make.delete_grace_ms};
  if (make.expected_servers != 0 && make.expected_servers < cluster.default_min_copies) {
    cluster.default_min_copies = static_cast<uint8_t>(make.expected_servers);
  }
  tx.put(keys::cluster(), encode(cluster));

  InodeRecord root;
  Attributes& a = root.attributes;
  a.inode = kRootInode;
  a.type = FileType::kDirectory;
  a.mode = make.root_mode & 07777;
  a.uid = make.root_uid;
  a.gid = make.root_gid;
  a.nlink = 2;
  a.atime = a.mtime = a.ctime = a.btime = tx.context().wall_ns;
  a.change = a.data_change = 1;
  a.goal = cluster.default_goal;
  a.min_copies = cluster.default_min_copies;
  root.parent = kRootInode;
  tx.put_inode(root);
  ++tx.counters().inodes;
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const RotateKeys& rotate) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster) return ErrorCode::kUnavailable;
  if (rotate.key.key.empty() || rotate.key.id == 0) return ErrorCode::kInvalid;
  if (!cluster->keys.empty() && rotate.key.id <= cluster->keys.front().id) return ErrorCode::kConflict;
  cluster->keys.insert(cluster->keys.begin(), rotate.key);
  if (cluster->keys.size() > 2) cluster->keys.resize(2);
  tx.put(keys::cluster(), encode(*cluster));
  return ReplyBody{EmptyReply{}};
}

}  // namespace cairn
