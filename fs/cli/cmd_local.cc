// cairn local: a whole cluster on this machine.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fmt/core.h>
#include <memory>
#include <string>
#include <sys/stat.h>

#include <boost/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/local_cluster.h"
#include "fs/cli/masters.h"
#include "fs/cli/mount_tools.h"
#include "fs/cli/output.h"
#include "fs/fuse/kernel_mount.h"

namespace cairn {

namespace {

struct LocalArguments {
  std::string folder = default_local_folder();
  uint32_t chunkservers = 3;
  uint32_t masters = 1;
  bool tcp = false;
  std::string mountpoint;
  bool json = false;
};

void say(const std::string& line) {
  std::printf("cairn: %s\n", line.c_str());
  std::fflush(stdout);
}

// Servers are told it, and run elsewhere.
std::string absolute(const std::string& folder) {
  std::error_code failed;
  std::filesystem::path path = std::filesystem::absolute(folder, failed).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return failed ? folder : path.string();
}

int up(const LocalArguments& arguments) {
  Result<LocalCluster> cluster =
      LocalCluster::load_or_make(absolute(arguments.folder), arguments.chunkservers, arguments.tcp);
  if (!cluster) return complain("local up", cluster.error());
  if (arguments.tcp && !cluster->on_tcp())
    return complain("local up", Error(ErrorCode::kInvalid,
                                      "--tcp: this cluster was made with Unix sockets, and a "
                                      "server's address stays; make another one with --dir"));
  Result<void> grown = cluster->grow_masters(arguments.masters);
  if (!grown) return complain("local up", grown.error());
  Result<void> started = cluster->up(say);
  if (!started) return complain("local up", started.error());
  say(fmt::format("the local cluster is up; its master{} at {}", cluster->master_count() > 1 ? "s are" : " is",
                  cluster->masters()));
  if (arguments.mountpoint.empty()) return kExitOk;
  for (const KernelMount& mount : kernel_mounts()) {
    if (mount.mountpoint == arguments.mountpoint && cluster->is_source(masters_of_source(mount.source))) {
      say("already mounted on " + arguments.mountpoint);
      return kExitOk;
    }
  }
  ::mkdir(arguments.mountpoint.c_str(), 0755);
  say("mounting on " + arguments.mountpoint);
  return mount_in_background(cluster->masters(), arguments.mountpoint);
}

int down(const LocalArguments& arguments) {
  Result<LocalCluster> cluster = LocalCluster::load(absolute(arguments.folder));
  if (!cluster) return complain("local down", cluster.error());
  int status = kExitOk;
  for (const KernelMount& mount : kernel_mounts()) {
    if (!cluster->is_source(masters_of_source(mount.source))) continue;
    say("unmounting " + mount.mountpoint);
    int unmounted = unmount(mount.mountpoint, false);
    if (unmounted != kExitOk) status = unmounted;
  }
  if (status != kExitOk) return status;  // what is mounted still needs the cluster
  Result<void> stopped = cluster->down(say);
  if (!stopped) return complain("local down", stopped.error());
  say("the local cluster is down; 'cairn local up' brings it back with everything on it");
  return kExitOk;
}

int status(const LocalArguments& arguments) {
  Result<LocalCluster> cluster = LocalCluster::load(absolute(arguments.folder));
  if (!cluster && cluster.code() == ErrorCode::kNotFound) {
    complain("local status", cluster.error());
    return kExitNotRunning;
  }
  if (!cluster) return complain("local status", cluster.error());
  std::vector<LocalCluster::Program> programs = cluster->programs();
  bool all = std::ranges::all_of(programs, [](const auto& program) { return program.process.has_value(); });
  if (arguments.json) {
    boost::json::array list;
    for (const LocalCluster::Program& program : programs) {
      list.push_back({{"name", program.name},
                      {"address", program.address},
                      {"running", program.process.has_value()},
                      {"pid", program.process ? program.process->pid : 0},
                      {"log", program.log_file}});
    }
    boost::json::object out{{"folder", cluster->folder()}, {"running", all}, {"programs", std::move(list)}};
    std::printf("%s\n", boost::json::serialize(out).c_str());
    return all ? kExitOk : kExitNotRunning;
  }
  Table table({"PROGRAM", "ADDRESS", "STATE", "LOG"});
  for (const LocalCluster::Program& program : programs) {
    std::string state = program.process
                            ? coloured(fmt::format("running, process {}", program.process->pid), Colour::kGood)
                            : coloured("not running", Colour::kBad);
    table.row({program.name, program.address, state, program.log_file});
  }
  std::fputs(table.str().c_str(), stdout);
  for (const KernelMount& mount : kernel_mounts()) {
    if (cluster->is_source(masters_of_source(mount.source))) std::printf("mounted on %s\n", mount.mountpoint.c_str());
  }
  return all ? kExitOk : kExitNotRunning;
}

}  // namespace

void add_local_commands(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<LocalArguments>();
  CLI::App* local = app.add_subcommand("local", "A whole cluster on this machine");
  local->require_subcommand(1);
  auto common = [arguments](CLI::App* command) {
    command->add_option("--dir", arguments->folder, "Folder of the local cluster")->capture_default_str();
  };
  CLI::App* up_command = local->add_subcommand("up", "Start it (and make it, the first time); harmless when it runs");
  common(up_command);
  up_command->add_option("--chunkservers", arguments->chunkservers, "How many, when it is made")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  up_command->add_option("--masters", arguments->masters, "How many: 1, 3 or 5; a cluster with fewer grows")
      ->check(CLI::IsMember({1, 3, 5}))
      ->capture_default_str();
  up_command->add_flag("--tcp", arguments->tcp, "When it is made: TCP and TLS on loopback, as between machines");
  up_command->add_option("--mount", arguments->mountpoint, "Mount it there, too");
  up_command->callback([arguments, &action] { action = [arguments] { return up(*arguments); }; });
  CLI::App* down_command = local->add_subcommand("down", "Unmount and stop it; everything stays on disk");
  common(down_command);
  down_command->callback([arguments, &action] { action = [arguments] { return down(*arguments); }; });
  CLI::App* status_command = local->add_subcommand("status", "What of it runs (exit status 4 if not all)");
  common(status_command);
  status_command->add_flag("--json", arguments->json, "For machines");
  status_command->callback([arguments, &action] { action = [arguments] { return status(*arguments); }; });
}

}  // namespace cairn
