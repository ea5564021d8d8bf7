# The functions every folder's CMakeLists.txt uses. Sources are listed by hand: tests/layering fails on a file that
# is in the tree and not in the build.
#
#   cairn_library(base SOURCES error.cc ... DEPS cairn::proto Boost::headers ...)
#       static library cairn_base, alias cairn::base; without SOURCES an interface library. DEPS are public,
#       PRIVATE_DEPS are not. Includes are written from the root of the repository: "common/base/result.h".
#   cairn_executable(cairn-master SOURCES main.cc DEPS ...)                      -> <build>/bin/cairn-master
#   cairn_capnp(proto types.capnp meta.capnp IMPORTS cairn::other_schemas)
#       library cairn_proto of generated code: #include "common/proto/meta.capnp.h". Schemas import one another
#       as "/common/proto/types.capnp". Hand-written code beside it goes into a cairn_library of another name.
#   cairn_test(result_test SOURCES result_test.cc DEPS cairn::base [LABELS unit] [TIMEOUT 60] [NO_MAIN] [NEEDS target...])
#       GoogleTest executable, one CTest test. TIMEOUT (seconds) is its time budget.
#   cairn_script_test(NAME copy_tree SCRIPT copy_tree.sh [ARGS ...] LABELS system [TIMEOUT 120] [NEEDS cairn ...])
#       a .py or .sh test; gets CAIRN_BIN_DIR and CAIRN_SOURCE_DIR in its environment.
#   cairn_fuzzer(frame_fuzz SOURCES frame_fuzz.cc CORPUS corpus/frame DEPS ...)
#       LLVMFuzzerTestOneInput; built with libFuzzer under CAIRN_FUZZERS, otherwise a unit test over the corpus.
#   cairn_benchmark(rpc_bench SOURCES rpc_bench.cc DEPS ...)                     Google Benchmark
#
# Labels: unit, sim, layering, system (root and /dev/fuse; runs alone), long (only with tests/run.sh --long),
# asan (a system test that also runs in the asan build).

set(CAIRN_GENERATED_DIR "${PROJECT_BINARY_DIR}/generated")

function(cairn_library NAME)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS;PRIVATE_DEPS")
  cairn_refuse_unknown(cairn_library)
  if(arg_SOURCES)
    add_library(cairn_${NAME} STATIC ${arg_SOURCES})
    target_include_directories(cairn_${NAME} PUBLIC "${PROJECT_SOURCE_DIR}" "${CAIRN_GENERATED_DIR}")
    target_link_libraries(cairn_${NAME} PUBLIC ${arg_DEPS} PRIVATE ${arg_PRIVATE_DEPS} cairn_warnings)
  else()
    add_library(cairn_${NAME} INTERFACE)
    target_include_directories(cairn_${NAME} INTERFACE "${PROJECT_SOURCE_DIR}" "${CAIRN_GENERATED_DIR}")
    target_link_libraries(cairn_${NAME} INTERFACE ${arg_DEPS})
  endif()
  add_library(cairn::${NAME} ALIAS cairn_${NAME})
endfunction()

function(cairn_executable NAME)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  cairn_refuse_unknown(cairn_executable)
  add_executable(${NAME} ${arg_SOURCES})
  target_include_directories(${NAME} PRIVATE "${PROJECT_SOURCE_DIR}" "${CAIRN_GENERATED_DIR}")
  target_link_libraries(${NAME} PRIVATE ${arg_DEPS} cairn_warnings)
  set_property(GLOBAL APPEND PROPERTY CAIRN_PROGRAMS ${NAME})
endfunction()

function(cairn_capnp NAME)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "IMPORTS")
  set(schemas)
  foreach(file IN LISTS arg_UNPARSED_ARGUMENTS)
    cmake_path(ABSOLUTE_PATH file NORMALIZE OUTPUT_VARIABLE absolute)
    list(APPEND schemas "${absolute}")
  endforeach()
  set(sources)
  foreach(schema IN LISTS schemas)
    cmake_path(RELATIVE_PATH schema BASE_DIRECTORY "${PROJECT_SOURCE_DIR}" OUTPUT_VARIABLE relative)
    set(output "${CAIRN_GENERATED_DIR}/${relative}")
    add_custom_command(
      OUTPUT "${output}.h" "${output}.c++"
      COMMAND "${CMAKE_COMMAND}" -E make_directory "${CAIRN_GENERATED_DIR}"
      COMMAND "${CAPNP_EXECUTABLE}" compile "-o${CAPNPC_CXX_EXECUTABLE}:${CAIRN_GENERATED_DIR}"
              "--src-prefix=${PROJECT_SOURCE_DIR}" "-I${PROJECT_SOURCE_DIR}" "${schema}"
      # capnp writes no list of what a schema imports: every schema of the library, and of the libraries it imports,
      # counts as one.
      DEPENDS ${schemas} "$<TARGET_GENEX_EVAL:cairn_${NAME},$<TARGET_PROPERTY:cairn_${NAME},CAIRN_IMPORTED_SCHEMAS>>"
      COMMENT "capnp ${relative}"
      VERBATIM)
    list(APPEND sources "${output}.c++" "${output}.h")
  endforeach()
  add_library(cairn_${NAME} STATIC ${sources})
  set(imported)
  foreach(import IN LISTS arg_IMPORTS)
    list(APPEND imported "$<TARGET_PROPERTY:${import},CAIRN_SCHEMAS>")
  endforeach()
  set_target_properties(cairn_${NAME} PROPERTIES CAIRN_SCHEMAS "${schemas}" CAIRN_IMPORTED_SCHEMAS "${imported}")
  target_include_directories(cairn_${NAME} SYSTEM PUBLIC "${CAIRN_GENERATED_DIR}")
  target_include_directories(cairn_${NAME} PUBLIC "${PROJECT_SOURCE_DIR}")
  target_link_libraries(cairn_${NAME} PUBLIC cairn::kj_fix ${arg_IMPORTS})
  add_library(cairn::${NAME} ALIAS cairn_${NAME})
endfunction()

function(cairn_test NAME)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_MAIN" "TIMEOUT" "SOURCES;DEPS;LABELS;NEEDS")
  cairn_refuse_unknown(cairn_test)
  add_executable(${NAME} ${arg_SOURCES})
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  target_include_directories(${NAME} PRIVATE "${PROJECT_SOURCE_DIR}" "${CAIRN_GENERATED_DIR}")
  target_link_libraries(${NAME} PRIVATE ${arg_DEPS} cairn_warnings GTest::gmock)
  if(NOT arg_NO_MAIN)
    target_link_libraries(${NAME} PRIVATE GTest::gmock_main)
  endif()
  add_test(NAME ${NAME} COMMAND ${NAME} --gtest_brief=1)
  cairn_register_test(${NAME} "${arg_LABELS}" "${arg_TIMEOUT}" ${NAME} ${arg_NEEDS})
endfunction()

function(cairn_script_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;SCRIPT;TIMEOUT" "ARGS;LABELS;NEEDS")
  cairn_refuse_unknown(cairn_script_test)
  cmake_path(ABSOLUTE_PATH arg_SCRIPT NORMALIZE)
  if(arg_SCRIPT MATCHES "\\.py$")
    add_test(NAME ${arg_NAME} COMMAND "${Python3_EXECUTABLE}" "${arg_SCRIPT}" ${arg_ARGS})
  else()
    add_test(NAME ${arg_NAME} COMMAND bash "${arg_SCRIPT}" ${arg_ARGS})
  endif()
  cairn_register_test(${arg_NAME} "${arg_LABELS}" "${arg_TIMEOUT}" ${arg_NEEDS})
endfunction()

function(cairn_fuzzer NAME)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "CORPUS;TIMEOUT" "SOURCES;DEPS")
  cairn_refuse_unknown(cairn_fuzzer)
  cmake_path(ABSOLUTE_PATH arg_CORPUS NORMALIZE)
  add_executable(${NAME} ${arg_SOURCES})
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  target_include_directories(${NAME} PRIVATE "${PROJECT_SOURCE_DIR}" "${CAIRN_GENERATED_DIR}")
  target_link_libraries(${NAME} PRIVATE ${arg_DEPS} cairn_warnings)
  if(CAIRN_FUZZERS)
    # What it finds stays in the build tree: a new input is added to corpus/ by hand, with the fix.
    set(found "${CMAKE_CURRENT_BINARY_DIR}/${NAME}.found")
    file(MAKE_DIRECTORY "${found}")
    target_link_options(${NAME} PRIVATE -fsanitize=fuzzer)
    add_test(NAME ${NAME} COMMAND ${NAME} -runs=20000 "-artifact_prefix=${found}/" "${found}" "${arg_CORPUS}")
  else()
    target_sources(${NAME} PRIVATE "${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cc")
    add_test(NAME ${NAME} COMMAND ${NAME} "${arg_CORPUS}")
  endif()
  cairn_register_test(${NAME} unit "${arg_TIMEOUT}" ${NAME})
endfunction()

function(cairn_benchmark NAME)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPS")
  cairn_refuse_unknown(cairn_benchmark)
  add_executable(${NAME} ${arg_SOURCES})
  set_target_properties(${NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bench")
  target_include_directories(${NAME} PRIVATE "${PROJECT_SOURCE_DIR}" "${CAIRN_GENERATED_DIR}")
  target_link_libraries(${NAME} PRIVATE ${arg_DEPS} cairn_warnings benchmark::benchmark_main)
endfunction()

# Labels, time budget, and the targets cairn_tests_<label> that tests/run.sh builds.
function(cairn_register_test NAME LABELS TIMEOUT)
  if(NOT LABELS)
    set(LABELS unit)
  endif()
  if(NOT TIMEOUT)
    set(TIMEOUT 60)
  endif()
  set_tests_properties(${NAME} PROPERTIES
    LABELS "${LABELS}" TIMEOUT ${TIMEOUT}
    ENVIRONMENT "CAIRN_BIN_DIR=${PROJECT_BINARY_DIR}/bin;CAIRN_SOURCE_DIR=${PROJECT_SOURCE_DIR};CAIRN_BUILD_DIR=${PROJECT_BINARY_DIR}")
  foreach(label IN LISTS LABELS)
    if(NOT label MATCHES "^(unit|sim|layering|system|long|asan)$")
      message(FATAL_ERROR "test ${NAME}: unknown label '${label}' (unit, sim, layering, system, long, asan)")
    endif()
    if(label STREQUAL "system")
      # One mount of a whole cluster at a time: two would share ports, cores and /dev/fuse.
      set_tests_properties(${NAME} PROPERTIES RUN_SERIAL ON RESOURCE_LOCK fuse)
    endif()
    if(NOT TARGET cairn_tests_${label})
      add_custom_target(cairn_tests_${label})
    endif()
    if(ARGN)
      add_dependencies(cairn_tests_${label} ${ARGN})
    endif()
  endforeach()
endfunction()

macro(cairn_refuse_unknown FUNCTION)
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${FUNCTION}: what is '${arg_UNPARSED_ARGUMENTS}'?")
  endif()
endmacro()
