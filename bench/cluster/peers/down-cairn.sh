#!/bin/bash
# down-cairn.sh [--wipe]: unmount, stop everything; --wipe also deletes the data.
. "$(dirname "$0")/common.sh"
CAIRN_BIN=${CAIRN_BIN:-$(cd "$(dirname "$0")/../../.." && pwd)/build/release/bin}
if [ -x "$CAIRN_BIN/cairn" ] && [ -d "$PEERS/cairn/data" ]; then
  "$CAIRN_BIN/cairn" local down --dir "$PEERS/cairn/data" || true
fi
unmount "$PEERS/cairn/mnt"
if [ "${1:-}" = --wipe ]; then rm -rf "$PEERS/cairn"; fi
echo "cairn down"
