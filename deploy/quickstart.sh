#!/usr/bin/env bash
# quickstart.sh [OPTIONS] [MOUNTPOINT]: from a clean clone on Debian 12 to a mounted filesystem: installs the packages, builds, starts a local cluster of
# one master and three chunkservers, mounts it (default /mnt/cairn), copies a real directory tree in, compares it, and leaves it running.
# Running it again is harmless. Needs root, or sudo.
#   --dir DIR      where the local cluster keeps its data (default /var/lib/cairn/local)
#   --masters N    1, 3 or 5 of them; a cluster that has fewer grows (default 1)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mountpoint=/mnt/cairn
dir=/var/lib/cairn/local
masters=1

usage() { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --dir) dir=${2:?--dir needs a folder}; shift ;;
    --masters) masters=${2:?--masters needs 1, 3 or 5}; shift ;;
    -*) echo "quickstart: unknown option $1" >&2; usage >&2; exit 2 ;;
    *) mountpoint=$1 ;;
  esac
  shift
done
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "quickstart: run it as root, or install sudo" >&2; exit 1; }
  exec sudo --preserve-env=CAIRN_SKIP_OS_CHECK,CCACHE_DIR "$here/deploy/quickstart.sh" --dir "$dir" --masters "$masters" "$mountpoint"
fi

step() { printf '\n== %s\n' "$*"; }
fail() { echo "quickstart: $*" >&2; exit 1; }
[ -c /dev/fuse ] || modprobe fuse 2>/dev/null || true
[ -c /dev/fuse ] || fail "/dev/fuse is not there: this machine (or container) cannot mount FUSE filesystems"

step "Installing packages"
"$here/deploy/install-deps.sh"

step "Building (release); the first time this takes some minutes"
cmake -S "$here" --preset release >/dev/null || fail "cmake could not configure; run: cmake --preset release"
cmake --build "$here/build/release" --target cairn cairn-master cairn-chunkserver
cairn=$here/build/release/bin/cairn

step "Starting the local cluster in $dir and mounting it on $mountpoint"
mkdir -p "$mountpoint"
"$cairn" local up --dir "$dir" --masters "$masters" --mount "$mountpoint"

# Something real: this repository's sources, and the system's headers and documents as far as they are there.
step "Copying a directory tree in, and comparing it"
target=$mountpoint/quickstart
rm -rf "$target"
mkdir "$target"
cp -a "$here/common" "$here/master" "$here/chunkserver" "$here/fs" "$here/docs" "$target/"
cp -a /usr/include/linux /usr/include/c++ "$target/"
for part in common master chunkserver fs docs; do
  diff -r --no-dereference "$here/$part" "$target/$part" || fail "$target/$part differs from its original"
done
for part in linux c++; do
  diff -r --no-dereference "/usr/include/$part" "$target/$part" || fail "$target/$part differs from its original"
done
echo "$(find "$target" -type f | wc -l) files, $(du -sh "$target" | cut -f1): all equal to their originals"

step "cairn status"
"$cairn" status || true

step "It is running. What to try next"
cat <<EOF
  ls $mountpoint                     the files
  $cairn info $target/fs/cli/main.cc      where a file is
  $cairn goal set -r $target 2       fewer replicas
  $cairn local status --dir $dir     its processes
  $cairn local down --dir $dir       stop it; everything stays on disk
  $cairn local up --dir $dir --mount $mountpoint    and bring it back
EOF
