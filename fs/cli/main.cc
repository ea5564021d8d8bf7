// cairn: the command line. Also mount.cairn, by its name, for mount(8) and fstab.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/version.h"
#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"

namespace {

// mount(8) calls: mount.cairn SOURCE DIR [-sfnv] [-o OPTIONS].
std::vector<std::string> arguments_of(int argc, char** argv) {
  std::vector<std::string> out(argv + 1, argv + argc);
  std::string_view name = argv[0];
  if (name.substr(name.rfind('/') + 1) != "mount.cairn") return out;
  std::vector<std::string> mount = {"mount"};
  for (const std::string& argument : out) {
    if (argument == "-s" || argument == "-n" || argument == "-v") continue;
    mount.push_back(argument);
  }
  return mount;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Cairn: a distributed filesystem. Start with `cairn local up`.", "cairn");
  app.set_version_flag("--version", "cairn " + std::string(cairn::kVersion));
  app.require_subcommand(1);
  cairn::Action action;
  cairn::add_mount_commands(app, action);
  cairn::add_local_commands(app, action);
  cairn::add_status_command(app, action);
  cairn::add_info_command(app, action);
  cairn::add_goal_commands(app, action);
  cairn::add_completion_command(app, action);
  std::vector<std::string> arguments = arguments_of(argc, argv);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 takes a vector
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? cairn::kExitOk : cairn::kExitUsage;
  }
  return action ? action() : cairn::kExitUsage;
}
