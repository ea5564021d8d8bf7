#!/usr/bin/env bash
# Takes each rule of docs/consistency.md out of a copy of the tree, one at a time, and expects a test to fail. See docs/testing.md.
#
#   tests/mutations/run.sh              all of them
#   tests/mutations/run.sh 03 seal      those with a name that contains one of these
#
# A NN-what.patch says before its diff: the rule, what is changed, and the test that must fail: a program in build/.../tests
# and its arguments. CAIRN_JOBS sets how many jobs build. Exit status: 0 when every mutation was noticed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
jobs=${CAIRN_JOBS:-$(nproc)}
time_limit=300  # a test that hangs has noticed, too

copy=$(mktemp -d "${TMPDIR:-/tmp}/cairn-mutations-XXXXXX")
trap 'rm -rf "$copy"' EXIT
# Not a repository, and not inside one: git apply then takes paths as they are.
export GIT_CEILING_DIRECTORIES=$copy/..
tar -C "$root" --exclude=./build --exclude=./.git -cf - . | tar -C "$copy" -xf -
cd "$copy"
cmake --preset release >configure.log 2>&1 || { cat configure.log >&2; exit 1; }

build() { cmake --build build/release -j "$jobs" --target "$1" >build.log 2>&1; }
field() { sed -n "s/^$2: //p" "$1" | head -n 1; }

# The test's status: 0 passed, 124 too long, else failed.
run_test() {
  local words status=0
  read -ra words <<<"$1"
  timeout --kill-after=10 "$time_limit" "build/release/tests/${words[0]}" "${words[@]:1}" >test.log 2>&1 || status=$?
  return "$status"
}

wanted() {
  local patch=$1 word
  shift
  [ $# -gt 0 ] || return 0
  for word in "$@"; do
    [[ $(basename "$patch") == *"$word"* ]] && return 0
  done
  return 1
}

declare -A sound=()  # tests that pass on the tree as it is: only those can say anything
bad=()
noticed=0

try() {
  local patch=$1 name test target status=0
  name=$(basename "$patch" .patch)
  test=$(field "$patch" Test)
  target=${test%% *}
  if [ -z "${sound[$test]:-}" ]; then
    build "$target" || { tail -n 40 build.log >&2; bad+=("$name: the tree does not build"); return; }
    run_test "$test" || { tail -n 40 test.log >&2; bad+=("$name: '$test' fails without the mutation"); return; }
    sound[$test]=yes
  fi
  git apply "$patch" || { bad+=("$name: does not apply"); return; }
  if ! build "$target"; then
    tail -n 40 build.log >&2
    bad+=("$name: does not build")
  else
    run_test "$test" || status=$?
    if [ "$status" = 0 ]; then
      bad+=("$name: nothing noticed ($test)")
    else
      noticed=$((noticed + 1))
      printf 'noticed   %s (%s, status %d)\n' "$name" "$test" "$status"
    fi
  fi
  git apply --reverse "$patch"
}

tried=0
for patch in "$here"/*.patch; do
  wanted "$patch" "$@" || continue
  tried=$((tried + 1))
  try "$patch"
done
if [ "$tried" = 0 ]; then
  echo "run.sh: no patch is named so" >&2
  exit 2
fi
printf '%d mutations, %d noticed\n' "$tried" "$noticed"
if [ ${#bad[@]} -gt 0 ]; then
  printf 'BAD       %s\n' "${bad[@]}"
  exit 1
fi
