# Everything Cairn links, all from Debian 12 (libraft from bookworm-backports). deploy/install-deps.sh is the one
# list of packages. Targets to name in DEPS:
#   Threads::Threads  Boost::headers  CapnProto::capnp  leveldb::leveldb  spdlog::spdlog  fmt::fmt
#   tomlplusplus::tomlplusplus  CLI11::CLI11  prometheus-cpp::core  OpenSSL::SSL  OpenSSL::Crypto
#   PkgConfig::ISAL  PkgConfig::FUSE3  PkgConfig::RAFT  PkgConfig::URING  PkgConfig::ZSTD  cairn::allocator
# Ours, built once (common/runtime, common/base):  cairn::asio  cairn::beast  cairn::json
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

find_package(Boost 1.81 REQUIRED)
find_package(CapnProto 0.9 REQUIRED)
find_package(leveldb REQUIRED)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(CLI11 REQUIRED)
find_package(prometheus-cpp REQUIRED COMPONENTS core)
find_package(OpenSSL 3 REQUIRED)

pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(FUSE3 REQUIRED IMPORTED_TARGET fuse3>=3.14)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)

# For programs whose threads hand what they allocate to one another: glibc's malloc takes a fifth of a master's time
# (bench/results.md). Sanitizers bring their own.
pkg_check_modules(JEMALLOC REQUIRED IMPORTED_TARGET jemalloc)
add_library(cairn_allocator INTERFACE)
add_library(cairn::allocator ALIAS cairn_allocator)
if(NOT CAIRN_SANITIZE)
  target_link_libraries(cairn_allocator INTERFACE PkgConfig::JEMALLOC)
endif()

pkg_check_modules(RAFT IMPORTED_TARGET raft)
if(NOT RAFT_FOUND OR RAFT_VERSION VERSION_LESS 0.22)
  set(raft_found "none")
  if(RAFT_FOUND)
    set(raft_found "${RAFT_VERSION}")
  endif()
  message(FATAL_ERROR
    "Cairn needs libraft 0.22 or later, found: ${raft_found}.\n"
    "Debian 12's own libraft 0.15 loses acknowledged entries; do not build with it. The right one is in\n"
    "bookworm-backports: run deploy/install-deps.sh --build, which adds that suite for libraft only.")
endif()

if(CAIRN_TESTS)
  find_package(GTest REQUIRED)
  find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
endif()
if(CAIRN_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()
