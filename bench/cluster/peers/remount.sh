#!/bin/bash
# remount.sh cairn | moosefs | gluster [1|3] | ceph: unmount the client of a running peer
# and mount it again, so that no cache in the client process survives.
. "$(dirname "$0")/common.sh"
client() { # client MOUNTPOINT PIDFILE
  unmount "$1"; stop_pid "$2" 20
}
case ${1:-} in
  cairn)
    CAIRN_BIN=${CAIRN_BIN:-$(cd "$(dirname "$0")/../../.." && pwd)/build/release/bin}
    "$CAIRN_BIN/cairn" umount "$PEERS/cairn/mnt"
    "$CAIRN_BIN/cairn" local up --dir "$PEERS/cairn/data" --mount "$PEERS/cairn/mnt";;
  moosefs) client "$PEERS/moosefs/mnt" "$PEERS/moosefs/run/mount.pid"; mount_moosefs;;
  gluster) for r in ${2:-1 3}; do client "$PEERS/gluster/mnt$r" "$PEERS/gluster/run/mount$r.pid"; mount_gluster "$r"; done;;
  ceph) client "$PEERS/ceph/mnt" "$PEERS/ceph/run/mount.pid"; mount_ceph;;
  *) die "usage: remount.sh cairn | moosefs | gluster [1|3] | ceph";;
esac
