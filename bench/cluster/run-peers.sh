#!/bin/bash
# run-peers.sh [fsbench.py options]: brings the peers up, measures them all in one
# run (plus any --mount of yours, with --cold and --note if it has them), takes
# them down. Options are passed on, so --only, --reps, --size, --out and so on work.
#   SET="cairn local fuse-passthrough moosefs gluster ceph"   which of them (default: cairn moosefs)
#   KEEP=1        leave the peers up
#   FRESH=1       start from empty peers (--wipe) and wipe them at the end
#   BENCH_GROUP=fsbench   name of a control group (version 1) to make: the peers and
#                 the harness run in it with a larger share of the processors than
#                 others have, and its processor time is recorded. Empty: none.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
PEERS=${PEERS:-/tmp/peers}; export PEERS
SET=${SET:-cairn moosefs}
BENCH_GROUP=${BENCH_GROUP-fsbench}
mkdir -p "$PEERS"

GROUP=()
if [ -n "$BENCH_GROUP" ] && [ -e /sys/fs/cgroup/cpuacct/tasks ]; then
  for c in cpu cpuacct; do
    mkdir -p "/sys/fs/cgroup/$c/$BENCH_GROUP"
    echo $$ >"/sys/fs/cgroup/$c/$BENCH_GROUP/tasks"
  done
  echo 16384 >"/sys/fs/cgroup/cpu/$BENCH_GROUP/cpu.shares"
  GROUP=(--cpu-group "/sys/fs/cgroup/cpuacct/$BENCH_GROUP")
fi

wipe() { if [ "${FRESH:-0}" = 1 ]; then echo --wipe; fi; }
down() { for p in $SET; do "$HERE/peers/down-$p.sh" $(wipe) || true; done; }
# peers already up would be outside the control group
down >/dev/null

ARGS=()
add() { # add NAME DIR REMOUNT NOTE
  ARGS+=(--mount "$1=$2" --note "$1=$4")
  if [ -n "$3" ]; then ARGS+=(--cold "$1=$HERE/peers/remount.sh $3"); fi
}
pkg() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo '?'; }
for p in $SET; do
  case $p in
    local)
      "$HERE/peers/up-local.sh"
      add local "$PEERS/local/mnt" "" "plain directory on $(stat -f -c %T "$PEERS"), kernel $(uname -r); fsync reaches the virtual disk";;
    fuse-passthrough)
      "$HERE/peers/up-fuse-passthrough.sh"
      add fuse-passthrough "$PEERS/fuse-passthrough/mnt" "" "libfuse $(pkg libfuse3-3) passthrough_ll, ${PTOPTS:-writeback,cache=auto}, over the same local filesystem; fsync is passed on";;
    cairn)
      network="Unix sockets"; if [ -n "${CAIRN_TCP:-}" ]; then network="TCP and TLS"; fi
      "$HERE/peers/up-cairn.sh"
      add cairn "$PEERS/cairn/mnt" cairn "Cairn $("${CAIRN_BIN:-$HERE/../../build/release/bin}/cairn" --version), 1 master, 3 chunkservers, goal 3, over $network; fsync is on all replicas' and the master's disk";;
    moosefs)
      "$HERE/peers/up-moosefs.sh" 3
      v="MooseFS $(pkg moosefs-master), 1 master, 3 chunkservers, HDD_FSYNC_BEFORE_CLOSE=${FSYNC:-0}, CHANGELOG_SAVE_MODE=0 (both as shipped: nothing is fsynced by the servers)"
      if [ "${GOAL1:-0}" = 1 ]; then add moosefs-1 "$PEERS/moosefs/mnt/goal1" moosefs "$v, goal 1"; fi
      add moosefs-3 "$PEERS/moosefs/mnt/goal3" moosefs "$v, goal 3";;
    gluster)
      "$HERE/peers/up-gluster.sh" all
      v="GlusterFS $(pkg glusterfs-server), options as shipped (fsync is passed to the bricks)"
      add gluster-1 "$PEERS/gluster/mnt1" "gluster 1" "$v, 1 brick"
      add gluster-3 "$PEERS/gluster/mnt3" "gluster 3" "$v, replica 3";;
    ceph)
      "$HERE/peers/up-ceph.sh"
      v="CephFS $(pkg ceph-osd), 1 mon, 1 mgr, 3 BlueStore OSDs on sparse files (O_DIRECT, every write committed before its reply), 1 MDS, ceph-fuse, osd_memory_target 1 GiB"
      add cephfs-1 "$PEERS/ceph/mnt/size1" ceph "$v, data pool size 1 (metadata pool size 3)"
      add cephfs-3 "$PEERS/ceph/mnt/size3" ceph "$v, all pools size 3, min_size 2";;
    *) echo "unknown peer: $p" >&2; exit 1;;
  esac
done

status=0
python3 "$HERE/fsbench.py" --work "$PEERS/benchwork" "${GROUP[@]}" "${ARGS[@]}" "$@" || status=$?
if [ "${KEEP:-0}" != 1 ]; then down; fi
exit $status
