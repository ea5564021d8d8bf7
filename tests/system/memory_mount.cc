// Mounts a MemoryFileSystem: what fuse_memory_test and measurements of FUSE itself run on.
//   memory_mount MOUNTPOINT [foreground] [poll_us=N] [appends_elsewhere] [never_durable] [controls] [valid_long]
//   [takes_ms=N] [no_conflicts] [old_kernel] [no_epoch] [ro] [no_master]
//                options=A,B
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "fs/fuse/run_mount.h"
#include "tests/support/memory_file_system.h"

namespace {

using namespace cairn;

Task<Result<std::unique_ptr<FileSystem>>> make_file_system(World* world, MemoryFileSystemOptions options, bool fail) {
  if (fail) co_return Error(ErrorCode::kUnavailable, "no master answers at memory:1, memory:2");
  std::unique_ptr<FileSystem> made = std::make_unique<MemoryFileSystem>(*world, options);
  co_return made;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: memory_mount MOUNTPOINT [option...]\n");
    return 2;
  }
  MountOptions mount;
  MemoryFileSystemOptions memory;
  bool fail = false;
  mount.mountpoint = argv[1];
  mount.client.program = "memory_mount";
  mount.client.masters = {{.host_or_path = "memory", .port = 1}, {.host_or_path = "memory", .port = 2}};
  for (int i = 2; i < argc; ++i) {
    std::string_view option = argv[i];
    if (option == "foreground") {
      mount.foreground = true;
    } else if (option.starts_with("poll_us=")) {
      mount.poll = std::chrono::microseconds(std::atoi(argv[i] + 8));
    } else if (option == "appends_elsewhere") {
      memory.appends_elsewhere = true;
    } else if (option == "never_durable") {
      memory.never_durable = true;
      mount.flush_timeout = std::chrono::milliseconds(200);
    } else if (option == "controls") {
      memory.controls = true;
    } else if (option == "valid_long") {
      memory.valid_for = std::chrono::minutes(10);
    } else if (option == "no_conflicts") {
      mount.conflict_time = {};
    } else if (option.starts_with("takes_ms=")) {
      memory.takes = std::chrono::milliseconds(std::atoi(argv[i] + 9));
    } else if (option == "old_kernel") {
      mount.kernel = {.kill_privileges = false,
                      .readdirplus = false,
                      .parallel_dirops = false,
                      .epoch = false,
                      .direct_mmap = false};
    } else if (option == "no_epoch") {
      mount.kernel.epoch = false;
    } else if (option == "no_master") {
      fail = true;
    } else if (option.starts_with("options=")) {
      mount.extra_options = option.substr(8);
    } else if (option == "ro") {
      mount.client.read_only = true;
    } else {
      std::fprintf(stderr, "memory_mount: what is '%s'?\n", argv[i]);
      return 2;
    }
  }
  mount.connect = [memory, fail](World& world, ClientOptions) { return make_file_system(&world, memory, fail); };
  return run_mount(std::move(mount));
}
