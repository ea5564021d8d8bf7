# Compiler, linker and flags. Why clang 19: docs/design.md 3.1 (GCC 12 miscompiles coroutines).
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang" OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS 19)
  message(FATAL_ERROR
    "Cairn needs clang 19 or later, found ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}.\n"
    "Install it with deploy/install-deps.sh --build and configure with a preset, for example:\n"
    "  cmake --preset release")
endif()

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
# No NDEBUG in any of them: what is checked in debug is checked in release.
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g1")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

if(CMAKE_C_COMPILER_ID STREQUAL "Clang")
  add_link_options(-fuse-ld=lld)
else()
  message(FATAL_ERROR "Cairn's C shim needs clang too: configure with a preset, or set CC=clang-19.")
endif()
find_program(CAIRN_LLD NAMES ld.lld-19 ld.lld)
if(NOT CAIRN_LLD)
  message(FATAL_ERROR "lld is missing: run deploy/install-deps.sh --build")
endif()

# With the base directory, clones of the repository in different places share one cache.
find_program(CAIRN_CCACHE ccache)
if(CAIRN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(cairn_launcher env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${CAIRN_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER ${cairn_launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${cairn_launcher})
endif()
# __FILE__ and debug information say "common/base/check.h", wherever the clone is.
file(RELATIVE_PATH cairn_source_from_build "${PROJECT_BINARY_DIR}" "${PROJECT_SOURCE_DIR}")
add_compile_options("-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=" "-ffile-prefix-map=${cairn_source_from_build}=")

if(CAIRN_SANITIZE)
  set(cairn_sanitize_flags "-fsanitize=${CAIRN_SANITIZE}" -fno-omit-frame-pointer -fno-sanitize-recover=all)
  if(CAIRN_SANITIZE MATCHES "undefined")
    # vptr checks need the type information of third-party classes, which Debian's LevelDB is built without.
    list(APPEND cairn_sanitize_flags -fno-sanitize=vptr,function)
  endif()
  add_compile_options(${cairn_sanitize_flags})
  add_link_options(${cairn_sanitize_flags})
endif()

if(CAIRN_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()

# Warnings for our own targets only; generated code and third-party headers (SYSTEM) stay out of it.
add_library(cairn_warnings INTERFACE)
target_compile_options(cairn_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wimplicit-fallthrough -Wunused -Wformat=2
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
  $<$<COMPILE_LANGUAGE:CXX>:-Woverloaded-virtual>
  $<$<COMPILE_LANGUAGE:CXX>:-Wextra-semi>
  $<$<BOOL:${CAIRN_WERROR}>:-Werror>
  # A missing designated initialiser takes its default on purpose.
  -Wno-missing-field-initializers)
