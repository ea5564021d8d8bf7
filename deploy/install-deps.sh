#!/usr/bin/env bash
# Installs what Cairn needs from Debian 12. This is the one list of packages: README.md, CI and deploy/quickstart.sh
# all come here. Safe to run again; when everything is installed it takes a fraction of a second and does not call apt.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: deploy/install-deps.sh [--build] [--run] [--test] [--long] [--bench] [--list]

  --build   compiler, build tools and libraries with their headers
  --run     what the finished programs need at run time
  --test    tools that tests/run.sh drives (fio, rsync, sqlite3, git, ...)
  --long    what `tests/run.sh --long` needs beyond that: QEMU, for Debian's own kernel
  --bench   MooseFS, for the comparison in bench/
  --list    print the chosen packages and stop

Without a choice: --build --run --test. Needs root or sudo. Debian 12 only; CAIRN_SKIP_OS_CHECK=1 tries another
system all the same (package names and versions may differ there).
USAGE
}

build_packages=(
  clang-19 lld-19 libclang-rt-19-dev clang-format-19 clang-tidy-19
  llvm-19  # llvm-symbolizer: a sanitizer's report names lines
  ccache cmake ninja-build pkg-config git ca-certificates python3
  libboost1.81-dev libssl-dev
  capnproto libcapnp-dev
  libleveldb-dev libsnappy-dev
  libfuse3-dev liburing-dev
  libraft-dev
  libisal-dev libzstd-dev libjemalloc-dev
  libspdlog-dev libfmt-dev
  libtomlplusplus-dev libcli11-dev
  prometheus-cpp-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
run_packages=(
  fuse3 libfuse3-3 ca-certificates
  libcapnp-0.9.2 libleveldb1d libsnappy1v5 libssl3 liburing2 libraft0 libisal2 libzstd1 libjemalloc2
  libspdlog1.10 libfmt9 libprometheus-cpp-core1.0
)
test_packages=(
  python3 git make curl xz-utils
  fio rsync sqlite3 attr acl
  iproute2 procps psmisc strace
)
long_packages=(qemu-system-x86 busybox-static cpio kmod)
bench_packages=(moosefs-master moosefs-chunkserver moosefs-client moosefs-cli)

# Debian 12's own libraft (0.15) loses acknowledged entries, so this one library comes from bookworm-backports.
raft_minimum=0.22
backports_sources=/etc/apt/sources.list.d/cairn-backports.sources
backports_preferences=/etc/apt/preferences.d/cairn-backports

say() { printf 'install-deps: %s\n' "$*"; }
fail() { printf 'install-deps: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "packages are missing, and this is neither root nor is sudo installed"
  fi
}

check_system() {
  [ "${CAIRN_SKIP_OS_CHECK:-}" = 1 ] && return
  local id='' version='' pretty=''
  if [ -r /etc/os-release ]; then
    # shellcheck disable=SC1091
    read -r id version pretty < <(. /etc/os-release && echo "${ID:-} ${VERSION_ID:-} ${PRETTY_NAME:-}")
  fi
  [ "$id" = debian ] && [ "$version" = 12 ] ||
    fail "this is ${pretty:-an unknown system}; Cairn is built and tested on Debian 12 (bookworm). Set CAIRN_SKIP_OS_CHECK=1 to try anyway."
}

# Prints the packages among "$@" that are not installed, or are too old.
missing_packages() {
  local package version
  declare -A installed=()
  while read -r package version; do
    installed[$package]=$version
  done < <(dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' "$@" 2>/dev/null |
    sed -n 's/^installed //p')
  for package in "$@"; do
    version=${installed[$package]:-}
    if [ -z "$version" ]; then
      echo "$package"
    elif [[ $package == libraft* ]] && dpkg --compare-versions "$version" lt "$raft_minimum"; then
      echo "$package"
    fi
  done
}

# Prints "URI|signed-by" of each source that serves the suite "$1", from files other than ours, in either format.
sources_of_suite() {
  local suite=$1 file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$file" ] || continue
    # deb [signed-by=/path arch=amd64] URI suite component...
    awk -v suite="$suite" '
      $1 == "deb" {
        key = ""; line = $0; sub(/^[ \t]*deb[ \t]+/, "", line)
        if (match(line, /^\[[^]]*\]/)) {
          options = substr(line, 2, RLENGTH - 2); line = substr(line, RLENGTH + 1)
          if (match(options, /signed-by=[^ ]+/)) key = substr(options, RSTART + 10, RLENGTH - 10)
        }
        split(line, word, /[ \t]+/); first = word[1] == "" ? 2 : 1
        if (word[first + 1] == suite) print word[first] "|" key
      }' "$file"
  done
  for file in /etc/apt/sources.list.d/*.sources; do
    [ -r "$file" ] && [ "$file" != "$backports_sources" ] || continue
    awk -v suite="$suite" '
      function flush(  i, n, word) {
        if (uris != "" && types ~ /(^| )deb( |$)/ && enabled !~ /^(no|false|0)$/) {
          n = split(suites, word, " ")
          for (i = 1; i <= n; i++) if (word[i] == suite) { split(uris, uri, " "); print uri[1] "|" key }
        }
        types = uris = suites = key = enabled = ""
      }
      /^#/ { next }
      /^[ \t]*$/ { flush(); next }
      {
        name = tolower($1); value = $0; sub(/^[^:]*:[ \t]*/, "", value)
        if (name == "types:") types = value
        else if (name == "uris:") uris = value
        else if (name == "suites:") suites = value
        else if (name == "signed-by:") key = value
        else if (name == "enabled:") enabled = tolower(value)
      }
      END { flush() }' "$file"
  done
}

write_if_changed() {  # path content
  if [ -r "$1" ] && [ "$(cat "$1")" = "$2" ]; then
    return
  fi
  say "writing $1"
  printf '%s\n' "$2" | as_root tee "$1" >/dev/null
  as_root chmod 644 "$1"
}

# Makes bookworm-backports available for libraft and for nothing else.
add_backports() {
  local raft_pin=$'Package: libraft-dev libraft0 libraft-tools\nPin: release n=bookworm-backports\nPin-Priority: 700'
  if [ -n "$(sources_of_suite bookworm-backports)" ]; then
    # Somebody uses the suite already; its other packages keep the priority they have.
    write_if_changed "$backports_preferences" "$raft_pin"
    return
  fi
  local source uri key
  source=$(sources_of_suite bookworm | head -n 1)
  [ -n "$source" ] || fail "no source of the suite 'bookworm' is configured in /etc/apt, so the mirror that has
  bookworm-backports is not known. Add the suite by hand (libraft $raft_minimum or later comes from it) and run this again."
  uri=${source%%|*}
  key=${source#*|}
  write_if_changed "$backports_sources" "Types: deb
URIs: $uri
Suites: bookworm-backports
Components: main
Signed-By: ${key:-/usr/share/keyrings/debian-archive-keyring.gpg}"
  write_if_changed "$backports_preferences" "Package: *
Pin: release n=bookworm-backports
Pin-Priority: -10

$raft_pin"
}

check_raft_candidate() {
  local candidate
  candidate=$(apt-cache policy libraft-dev | sed -n 's/^ *Candidate: //p')
  if [ -z "$candidate" ] || [ "$candidate" = "(none)" ] || dpkg --compare-versions "$candidate" lt "$raft_minimum"; then
    fail "libraft $raft_minimum or later cannot be had: apt offers '${candidate:-nothing}'.
  It comes from bookworm-backports, taken from the mirror that this machine uses for bookworm
  ($(sed -n 's/^URIs: //p' "$backports_sources" 2>/dev/null)). If that mirror lacks the suite, point
  $backports_sources at one that has it and run this again. Debian 12's own libraft 0.15 will not do:
  it loses acknowledged entries."
  fi
}

install_packages() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  if [[ " $* " == *" libraft"* ]]; then
    add_backports
  fi
  say "missing: $*"
  say "updating the package lists"
  as_root "${apt[@]}" update || say "apt-get update reported errors; going on with the lists there are"
  if [[ " $* " == *" libraft"* ]]; then
    check_raft_candidate
  fi
  say "installing $# packages and what they depend on"
  as_root "${apt[@]}" install -y --no-install-recommends "$@"
}

main() {
  local packages=() list_only=false option
  for option in "$@"; do
    case $option in
      --build) packages+=("${build_packages[@]}") ;;
      --run) packages+=("${run_packages[@]}") ;;
      --test) packages+=("${test_packages[@]}") ;;
      --long) packages+=("${long_packages[@]}") ;;
      --bench) packages+=("${bench_packages[@]}") ;;
      --list) list_only=true ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
  done
  if [ ${#packages[@]} = 0 ]; then
    packages=("${build_packages[@]}" "${run_packages[@]}" "${test_packages[@]}")
  fi
  mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)
  if $list_only; then
    printf '%s\n' "${packages[@]}"
    exit 0
  fi

  check_system
  local missing=()
  mapfile -t missing < <(missing_packages "${packages[@]}")
  if [ ${#missing[@]} = 0 ]; then
    say "all ${#packages[@]} packages are installed"
    exit 0
  fi
  install_packages "${missing[@]}"
  mapfile -t missing < <(missing_packages "${packages[@]}")
  [ ${#missing[@]} = 0 ] || fail "still missing after the installation: ${missing[*]}"
  say "done"
}

main "$@"
