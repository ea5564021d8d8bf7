#!/bin/bash
# up-cairn.sh: a local Cairn cluster (one master, three chunkservers, goal 3) mounted on $PEERS/cairn/mnt. CAIRN_BIN is
# the folder of the programs (default: the release build of this repository). CAIRN_TCP=1: its parts talk over TCP and TLS
# on loopback, as between machines, and not over Unix sockets.
. "$(dirname "$0")/common.sh"
CAIRN_BIN=${CAIRN_BIN:-$(cd "$(dirname "$0")/../../.." && pwd)/build/release/bin}
[ -x "$CAIRN_BIN/cairn" ] || die "no $CAIRN_BIN/cairn: build with 'cmake --preset release && cmake --build --preset release' first"
mkdir -p "$PEERS/cairn/mnt"
"$CAIRN_BIN/cairn" local up --dir "$PEERS/cairn/data" ${CAIRN_TCP:+--tcp} --mount "$PEERS/cairn/mnt"
mounted "$PEERS/cairn/mnt" || die "cairn local up did not mount $PEERS/cairn/mnt"
echo "cairn up: $PEERS/cairn/mnt (goal 3)"
