// cairn server remove: forgets a chunkserver that is gone for good.
#include <charconv>
#include <cstdio>
#include <memory>
#include <string>

#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {

struct RemoveArguments {
  std::string masters, server;
  bool force = false;
};

constexpr Duration kAskLimit = std::chrono::seconds(60);  // it looks at every chunk of the server

// As `cairn status` shows it.
Result<ServerId> parse_server(const std::string& text) {
  ServerId server;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), server.value, 16);
  if (failed != std::errc() || end != text.data() + text.size() || !server)
    return Error(ErrorCode::kInvalid, "'" + text + "' is no server's id; cairn status shows them");
  return server;
}

Task<int> remove_server(RealWorld& world, std::vector<Address> masters, RemoveServerRequest request, std::string name) {
  Result<RemoveServerReply> reply = co_await ask_masters(world, std::move(masters), request, kAskLimit, kAskLimit);
  if (!reply) {
    std::string hint = reply.failed_with(ErrorCode::kNotEmpty) ? "; --force gives them up" : "";
    co_return complain("server remove " + name + ": " + reply.error().context + hint);
  }
  std::printf("removed; %llu chunks had a replica there\n", static_cast<unsigned long long>(reply->chunks));
  if (reply->lost > 0) {
    std::printf("%llu chunks had no other copy that can be reached now, of the files with these inodes:\n",
                static_cast<unsigned long long>(reply->lost));
    for (InodeId inode : reply->lost_inodes)
      std::printf("%llu\n", static_cast<unsigned long long>(inode.value));
  }
  co_return kExitOk;
}

}  // namespace

void add_server_commands(CLI::App& app, Action& action) {
  CLI::App* server = app.add_subcommand("server", "Chunkservers of the cluster");
  server->require_subcommand(1);
  auto arguments = std::make_shared<RemoveArguments>();
  CLI::App* remove = server->add_subcommand("remove", "Forget a chunkserver that is gone for good");
  remove->add_option("id", arguments->server, "Its id, as cairn status shows it")->required();
  remove->add_flag("--force", arguments->force, "Also if chunks have no other copy; they are named");
  remove->add_option("--master", arguments->masters, "Addresses of the masters: HOST:PORT[,HOST:PORT]");
  remove->callback([arguments, &action] {
    action = [arguments] {
      Result<ServerId> id = parse_server(arguments->server);
      if (!id) {
        complain("server remove", id.error());
        return kExitUsage;
      }
      Result<std::vector<Address>> masters = find_masters(arguments->masters);
      if (!masters) return complain("server remove", masters.error());
      RemoveServerRequest request{.server = *id, .force = arguments->force};
      return run_on_loop([&](RealWorld& world) { return remove_server(world, *masters, request, arguments->server); });
    };
  });
}

}  // namespace cairn
