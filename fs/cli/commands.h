// The commands of `cairn`: each adds itself to the parser, and gives what is to be done when it was chosen.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace cairn {

// Set by the command that was chosen; run after parsing. Gives the exit status.
using Action = std::function<int()>;

void add_mount_commands(CLI::App& app, Action& action);  // mount, umount, sync
void add_local_commands(CLI::App& app, Action& action);  // local up|down|status
void add_cluster_commands(CLI::App& app, Action& action);  // cluster init|issue|show
void add_status_command(CLI::App& app, Action& action);
void add_info_command(CLI::App& app, Action& action);
void add_goal_commands(CLI::App& app, Action& action);    // goal get|set
void add_server_commands(CLI::App& app, Action& action);  // server remove
void add_master_commands(CLI::App& app, Action& action);  // master status|add|remove|transfer
void add_metadata_commands(CLI::App& app, Action& action);  // metadata export|verify|import|check|accept
void add_rescue_command(CLI::App& app, Action& action);
void add_lock_commands(CLI::App& app, Action& action);  // lock ls|break, why
void add_completion_command(CLI::App& app, Action& action);

}  // namespace cairn
