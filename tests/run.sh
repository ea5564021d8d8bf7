#!/usr/bin/env bash
# Installs what is missing, builds, runs every test, and closes with CTest's own summary. See docs/testing.md.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: tests/run.sh [options]

  --preset NAME   only this preset (release, debug, asan, tsan); otherwise asan and then release
  -R REGEX        only tests whose name matches
  --long          the tests labelled 'long' too
  --no-install    do not look for missing packages
  --no-system     leave out the tests that mount (they need root and /dev/fuse)
  -h, --help

Under asan and tsan run the labels unit, sim and asan; under release and debug run all. CAIRN_SKIP_ASAN=1 leaves out
asan. CAIRN_JOBS sets how many jobs build and test in parallel (default: the number of cores). Exit status: 0 when
every test passed.
USAGE
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

presets=()
install=true
long=false
system=true
name_filter=()
while [ $# -gt 0 ]; do
  case $1 in
    --preset) presets=("${2:?--preset needs a name}"); shift ;;
    -R) name_filter=(-R "${2:?-R needs a regular expression}"); shift ;;
    --long) long=true ;;
    --no-install) install=false ;;
    --no-system) system=false ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
if [ ${#presets[@]} = 0 ]; then
  presets=(asan release)
  if [ -n "${CAIRN_SKIP_ASAN:-}" ]; then
    presets=(release)
  fi
fi
# A name may match under one preset only; that it matched anywhere is checked at the end.
no_tests=error
if [ ${#name_filter[@]} -gt 0 ]; then
  no_tests=ignore
fi
jobs=${CAIRN_JOBS:-$(nproc)}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

say() { printf '\n== %s (%d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)); }

has_target() { ninja -C "$1" -t query "$2" >/dev/null 2>&1; }

# Builds everything, or under a sanitizer what its labels need.
build() {
  local preset=$1 directory=build/$1 targets=() label
  cmake --preset "$preset" >"build/$preset.configure.log" 2>&1 || {
    cat "build/$preset.configure.log" >&2
    return 1
  }
  if [[ $preset == asan || $preset == tsan ]]; then
    for label in unit sim asan; do
      if has_target "$directory" "cairn_tests_$label"; then
        targets+=("cairn_tests_$label")
      fi
    done
  else
    targets=(all)
  fi
  cmake --build "$directory" -j "$jobs" --target "${targets[@]}"
}

run_tests() {
  local preset=$1 log=build/$1.ctest.log
  local ctest=(ctest --test-dir "build/$preset" --output-on-failure "--no-tests=$no_tests" -j "$jobs" "${name_filter[@]}")
  local without=()
  if [[ $preset == asan || $preset == tsan ]]; then
    ctest+=(-L '^(unit|sim|asan)$')
  fi
  $long || without+=(long)
  $system || without+=(system)
  if [ ${#without[@]} -gt 0 ]; then
    ctest+=(-LE "^($(IFS='|'; echo "${without[*]}"))\$")
  fi
  "${ctest[@]}" 2>&1 | python3 tests/show_budgets.py "build/$preset" | tee "$log"
}

if $install; then
  say "packages"
  deploy/install-deps.sh
  if $long; then deploy/install-deps.sh --long; fi
fi

if $system && { [ "$(id -u)" != 0 ] || [ ! -c /dev/fuse ]; }; then
  echo "run.sh: the tests labelled 'system' need root and /dev/fuse. Run as root, or leave them out with --no-system." >&2
  exit 1
fi

mkdir -p build
failed=()
for preset in "${presets[@]}"; do
  say "$preset: build"
  if ! build "$preset"; then
    failed+=("$preset (build)")
    continue
  fi
  say "$preset: tests"
  run_tests "$preset" || failed+=("$preset")
done

# Each preset's summary again, so that the end of the output tells all of it.
ran=false
for preset in "${presets[@]}"; do
  if [ -f "build/$preset.ctest.log" ] && [[ " ${failed[*]:-} " != *" $preset (build) "* ]]; then
    say "$preset: summary"
    if grep -q 'tests passed, ' "build/$preset.ctest.log"; then
      ran=true
    fi
    sed -n '/tests passed, /,$p; /No tests were found/p' "build/$preset.ctest.log"
    sed -n '/^failed:$/,/^$/p' "build/$preset.ctest.log"  # why, in a line each
  fi
done
if [ ${#failed[@]} = 0 ] && ! $ran; then
  failed=("no test ran")
fi
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
