#!/bin/bash
# run-two-mounts.sh [two_mounts.py options]: Cairn and MooseFS, each with two mounts on this machine, measured in one run by
# two_mounts.py, then Cairn's requests a file; takes all of it down. KEEP=1 leaves it up.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
PEERS=${PEERS:-/tmp/peers}; export PEERS
. "$HERE/peers/common.sh"
CAIRN_BIN=${CAIRN_BIN:-$(cd "$HERE/../.." && pwd)/build/release/bin}; export CAIRN_BIN
second() { echo "$PEERS/$1/second"; }

down() {
  if mounted "$(second cairn)"; then "$CAIRN_BIN/cairn" umount "$(second cairn)" || true; fi
  unmount "$(second moosefs)"
  stop_pid "$PEERS/moosefs/run/second.pid" 5
  "$HERE/peers/down-cairn.sh" --wipe || true
  "$HERE/peers/down-moosefs.sh" --wipe || true
}
down >/dev/null 2>&1
if [ "${KEEP:-0}" != 1 ]; then trap down EXIT; fi

"$HERE/peers/up-cairn.sh"
mkdir -p "$(second cairn)"
"$CAIRN_BIN/cairn" mount "unix:$PEERS/cairn/data/run/master.sock" "$(second cairn)"
"$HERE/peers/up-moosefs.sh" 3
mkdir -p "$(second moosefs)"
spawn "$PEERS/moosefs/run/second.pid" "$PEERS/moosefs/log/second.log" peers-mfs mfsmount -f "$(second moosefs)" -o mfsmaster=10.99.0.1
wait_for 30 "the second mfsmount" mounted "$(second moosefs)"

python3 "$HERE/two_mounts.py" --mounts "cairn=$PEERS/cairn/mnt,$(second cairn)" \
  --mounts "moosefs-3=$PEERS/moosefs/mnt/goal3,$(second moosefs)/goal3" "$@"
echo
python3 "$HERE/two_mounts.py" --requests "$PEERS/cairn/mnt"
