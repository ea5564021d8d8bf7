// cairn mount, umount, sync.
#include <cstdio>
#include <fmt/core.h>
#include <memory>
#include <poll.h>
#include <sstream>
#include <string>
#include <sys/mount.h>
#include <unistd.h>

#include "common/base/version.h"
#include "common/runtime/real_world.h"
#include "fs/cli/cluster_files.h"
#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/masters.h"
#include "fs/cli/mount_tools.h"
#include "fs/cli/mount_words.h"
#include "fs/cli/output.h"
#include "fs/fuse/kernel_mount.h"
#include "fs/fuse/mount_registry.h"
#include "fs/fuse/run_mount.h"

namespace cairn {

namespace {

struct MountArguments {
  std::string masters, mountpoint;
  std::vector<std::string> options;
  bool foreground = false;
  bool sloppy = false;
  bool fake = false;
  std::string log_file, log_level = "info";
};

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

LogLevel level_of(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

int mount(const MountArguments& arguments) {
  MountOptions options;
  std::string source = arguments.masters.starts_with("cairn#") ? arguments.masters.substr(6) : arguments.masters;
  Result<std::vector<Address>> masters = parse_masters(source);
  if (!masters) {
    complain("mount", masters.error());
    return kExitUsage;
  }
  options.client.masters = *masters;
  options.client.host = host_name();
  options.client.program = "cairn mount " + std::string(kVersion);
  options.mountpoint = arguments.mountpoint;
  options.tls = client_tls_settings();
  options.tls_folders = client_tls_folders(*masters);
  options.foreground = arguments.foreground;
  options.log_file = arguments.log_file;
  options.log_level = level_of(arguments.log_level);
  for (const std::string& list : arguments.options) {
    std::istringstream in(list);
    for (std::string option; std::getline(in, option, ',');) {
      Result<void> taken = take_mount_option(options, option);
      if (!taken && !arguments.sloppy) {
        complain("mount", taken.error());
        return kExitUsage;
      }
    }
  }
  return arguments.fake ? kExitOk : run_mount(std::move(options));
}

Task<int> sync_mount(RealWorld& world, MountRecord record, bool& done) {
  Result<ControlAnswer> answer =
      co_await ask_mount(world, record.socket, "/sync", world.clock().now() + std::chrono::minutes(6));
  if (!answer) co_return complain("sync " + record.mountpoint, answer.error());
  if (answer->status != 200) co_return complain("sync " + record.mountpoint + ": " + answer->body);
  done = true;
  co_return kExitOk;
}

int sync(const std::string& mountpoint) {
  std::unique_ptr<Disk> disk = make_command_disk();
  std::vector<MountRecord> records;
  if (mountpoint.empty()) {
    Result<std::vector<MountRecord>> all = list_mounts(*disk);
    if (!all) return complain("sync", all.error());
    records = std::move(*all);
  } else {
    Result<OnMount> on = mount_of(mountpoint);
    Result<MountRecord> record = find_mount(*disk, on ? on->mountpoint : mountpoint);
    if (!record) return complain("sync " + mountpoint, record.error());
    records.push_back(std::move(*record));
  }
  int status = kExitOk;
  for (const MountRecord& record : records) {
    bool done = false;
    int one = run_on_loop([&](RealWorld& world) { return sync_mount(world, record, done); });
    if (!done) status = one == kExitOk ? kExitFailed : one;
  }
  return status;
}

}  // namespace

int unmount(const std::string& mountpoint, bool quiet) {
  std::unique_ptr<Disk> disk = make_command_disk();
  Result<MountRecord> record = find_mount(*disk, mountpoint);
  std::string target = record ? record->mountpoint : mountpoint;
  bool mounted = std::ranges::any_of(kernel_mounts(), [&](const KernelMount& m) { return m.mountpoint == target; });
  if (!mounted && !record) return complain("umount " + mountpoint + ": no Cairn mount is there");
  if (mounted && ::umount2(target.c_str(), 0) != 0) {
    Error error = errno_error("umount " + target);
    if (error.code == ErrorCode::kBusy)
      return complain("umount " + target + ": it is in use; lsof " + target + " shows by whom");
    if (error.code != ErrorCode::kPermission) return complain("umount " + target, error);
    std::string command = "fusermount3 -u '" + target + "'";
    if (std::system(command.c_str()) != 0) return complain("umount " + target + ": fusermount3 failed");
  }
  if (!record) return kExitOk;
  // The kernel has let go; the process writes what it still holds.
  for (int waited_ms = 0; is_alive(record->process); waited_ms += 50) {
    if (!quiet && waited_ms > 0 && waited_ms % 5000 == 0)
      std::fprintf(stderr, "cairn: writing what is left; %d s\n", waited_ms / 1000);
    ::poll(nullptr, 0, 50);
  }
  Result<std::string> left = unwritten_at_end(*disk, *record);
  if (left && !left->empty()) return complain("umount " + target + ": not everything could be written: " + *left);
  return kExitOk;
}

int mount_in_background(const std::string& masters, const std::string& mountpoint) {
  MountArguments arguments;
  arguments.masters = masters;
  arguments.mountpoint = mountpoint;
  return mount(arguments);
}

void add_mount_commands(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<MountArguments>();
  CLI::App* command = app.add_subcommand("mount", "Mount a cluster on a directory");
  command->add_option("masters", arguments->masters, "Addresses of the masters: HOST:PORT[,HOST:PORT]")->required();
  command->add_option("mountpoint", arguments->mountpoint, "An existing directory")->required();
  command
      ->add_option("-o", arguments->options,
                   "Mount options: ro, nosuid, nodev, noexec, noatime, allow_other, master_timeout=SECONDS")
      ->take_all();
  command->add_flag("-f,--foreground", arguments->foreground, "Stay in the foreground");
  command->add_flag("--sloppy", arguments->sloppy, "Ignore unknown mount options (mount(8)'s -s)");
  command->add_flag("--fake", arguments->fake, "Check the arguments and mount nothing (mount(8)'s -f)");
  command->add_option("--log-file", arguments->log_file, "Where lines go (default: beside the mount's run file)");
  command->add_option("--log-level", arguments->log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  command->callback([arguments, &action] { action = [arguments] { return mount(*arguments); }; });

  auto target = std::make_shared<std::string>();
  CLI::App* umount_command = app.add_subcommand("umount", "Unmount, and wait until everything written is safe");
  umount_command->add_option("mountpoint", *target)->required();
  umount_command->callback([target, &action] { action = [target] { return unmount(*target, false); }; });

  auto synced = std::make_shared<std::string>();
  CLI::App* sync_command =
      app.add_subcommand("sync", "Make everything written through a mount (or all of them) durable");
  sync_command->add_option("mountpoint", *synced, "Default: all mounts of this machine");
  sync_command->callback([synced, &action] { action = [synced] { return sync(*synced); }; });
}

}  // namespace cairn
