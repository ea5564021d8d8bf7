// cairn goal get|set: how many replicas a file has, or files made in a directory get.
#include <cstdio>
#include <filesystem>
#include <fmt/core.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <vector>

#include <boost/json.hpp>

#include "common/base/version.h"
#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"
#include "fs/client/master_link.h"

namespace cairn {

namespace {

struct GoalArguments {
  std::string path;
  int goal = 0;
  int min_copies = 0;
  bool recursive = false;
  bool json = false;
};

constexpr Duration kAskLimit = std::chrono::seconds(8);

Task<int> show(RealWorld& world, std::vector<Address> masters, InodeId inode, const GoalArguments& arguments) {
  InfoRequest request;
  request.inode = inode;
  request.count = 1;
  Result<InfoReply> info = co_await ask_masters(world, std::move(masters), request, kAskLimit);
  if (!info) co_return complain("goal get " + arguments.path, info.error());
  if (arguments.json) {
    boost::json::object out{
        {"path", arguments.path}, {"goal", info->attributes.goal}, {"min_copies", info->attributes.min_copies}};
    std::printf("%s\n", boost::json::serialize(out).c_str());
  } else {
    std::printf("%s: goal %u, at least %u\n", arguments.path.c_str(), info->attributes.goal,
                info->attributes.min_copies);
  }
  co_return kExitOk;
}

Task<int> change(RealWorld& world, std::vector<Address> masters, const std::vector<InodeId>& inodes,
                 const GoalArguments& arguments) {
  Result<std::shared_ptr<Credentials>> secured = use_client_tls(world, masters);
  if (!secured) co_return complain("goal set " + arguments.path, secured.error());
  ClientOptions options;
  options.masters = std::move(masters);
  options.program = "cairn goal " + std::string(kVersion);
  MasterLink link(world, options);
  Result<void> opened = co_await link.open_session();
  int status = kExitOk;
  size_t changed = 0;
  if (!opened) status = complain("goal set " + arguments.path, opened.error());
  for (InodeId inode : inodes) {
    if (status != kExitOk) break;
    SetGoalOp op;
    op.inode = inode;
    op.goal = static_cast<uint8_t>(arguments.goal);
    op.min_copies = static_cast<uint8_t>(arguments.min_copies);
    Result<MutationReply> reply = co_await link.mutate(op);
    if (reply) ++changed;
    bool gone = reply.failed_with(ErrorCode::kStale) && inodes.size() > 1;  // removed while we were on the way
    if (!reply && !gone) status = complain("goal set, inode " + to_string(inode), reply.error());
  }
  co_await link.close(world.clock().now() + kAskLimit);
  if (status == kExitOk) std::printf("%s: goal %d set on %zu\n", arguments.path.c_str(), arguments.goal, changed);
  co_return status;
}

// The path itself, and with -r everything below it that is on the same mount.
Result<std::vector<InodeId>> inodes_of(const GoalArguments& arguments) {
  struct stat top{};
  if (::lstat(arguments.path.c_str(), &top) != 0) return errno_error(arguments.path);
  std::vector<InodeId> inodes = {InodeId(top.st_ino)};
  if (!arguments.recursive || !S_ISDIR(top.st_mode)) return inodes;
  std::error_code failed;
  for (std::filesystem::recursive_directory_iterator it(arguments.path, failed), end; !failed && it != end;
       it.increment(failed)) {
    struct stat st{};
    if (::lstat(it->path().c_str(), &st) != 0) continue;
    if (st.st_dev != top.st_dev) {
      it.disable_recursion_pending();
      continue;
    }
    if (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) inodes.push_back(InodeId(st.st_ino));
  }
  if (failed) return Error(from_errno(failed.value()), arguments.path + ": " + failed.message());
  return inodes;
}

int run(const GoalArguments& arguments, bool set) {
  Result<std::vector<Address>> masters = find_masters("", arguments.path);
  if (!masters) return complain("goal " + arguments.path, masters.error());
  Result<std::vector<InodeId>> inodes = inodes_of(arguments);
  if (!inodes) return complain("goal " + arguments.path, inodes.error());
  if (set) return run_on_loop([&](RealWorld& world) { return change(world, *masters, *inodes, arguments); });
  return run_on_loop([&](RealWorld& world) { return show(world, *masters, inodes->front(), arguments); });
}

}  // namespace

void add_goal_commands(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<GoalArguments>();
  CLI::App* goal = app.add_subcommand("goal", "How many replicas a file has (a directory: what is made in it gets)");
  goal->require_subcommand(1);
  CLI::App* get = goal->add_subcommand("get", "Show it");
  get->add_option("path", arguments->path)->required();
  get->add_flag("--json", arguments->json, "For machines");
  get->callback([arguments, &action] { action = [arguments] { return run(*arguments, false); }; });
  CLI::App* set = goal->add_subcommand("set", "Change it");
  set->add_flag("-r,--recursive", arguments->recursive, "Also everything below");
  set->add_option("path", arguments->path)->required();
  set->add_option("goal", arguments->goal, "Replicas wanted")
      ->required()
      ->check(CLI::Range(1, static_cast<int>(kMaxGoal)));
  set->add_option("--min-copies", arguments->min_copies, "Replicas without which fsync does not succeed")
      ->check(CLI::Range(1, static_cast<int>(kMaxGoal)));
  set->callback([arguments, &action] { action = [arguments] { return run(*arguments, true); }; });
}

}  // namespace cairn
