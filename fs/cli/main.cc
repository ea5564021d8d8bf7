// cairn: the command line. Also mount.cairn, by its name, for mount(8) and fstab.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/version.h"
#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/mount_words.h"

int main(int argc, char** argv) {
  CLI::App app("Cairn: a distributed filesystem. Start with `cairn local up`.", "cairn");
  app.set_version_flag("--version", "cairn " + std::string(cairn::kVersion));
  app.require_subcommand(1);
  cairn::Action action;
  cairn::add_mount_commands(app, action);
  cairn::add_local_commands(app, action);
  cairn::add_cluster_commands(app, action);
  cairn::add_status_command(app, action);
  cairn::add_info_command(app, action);
  cairn::add_goal_commands(app, action);
  cairn::add_server_commands(app, action);
  cairn::add_master_commands(app, action);
  cairn::add_metadata_commands(app, action);
  cairn::add_rescue_command(app, action);
  cairn::add_lock_commands(app, action);
  cairn::add_completion_command(app, action);
  std::vector<std::string> arguments(argv + 1, argv + argc);
  std::string_view name = argv[0];
  bool helper = name.substr(name.rfind('/') + 1) == "mount.cairn";
  if (helper) arguments = cairn::mount_helper_arguments(arguments);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 takes a vector
  int status = cairn::kExitUsage;
  try {
    app.parse(reversed);
    if (action) status = action();
  } catch (const CLI::ParseError& error) {
    status = app.exit(error) == 0 ? cairn::kExitOk : cairn::kExitUsage;
  }
  return helper ? cairn::mount_helper_status(status) : status;
}
