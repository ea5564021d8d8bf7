// cairn status: servers, space, chunks by health.
#include <cstdio>
#include <fmt/core.h>
#include <memory>
#include <string>

#include <boost/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/master_group.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {

struct StatusArguments {
  std::string masters;
  bool json = false;
};

constexpr Duration kAskLimit = std::chrono::seconds(8);

boost::json::object json_of(const StatusReply& status, const SeenGroup& group) {
  boost::json::array servers, sessions, warnings;
  for (const ServerStatus& server : status.servers) {
    servers.push_back({{"server", to_string(server.server)},
                       {"address", server.address},
                       {"domain", server.domain},
                       {"program", server.program},
                       {"alive", server.alive},
                       {"silent_ms", server.silent_ms},
                       {"total_bytes", server.space.total_bytes},
                       {"free_bytes", server.space.free_bytes},
                       {"chunks", server.space.chunks},
                       {"stores", server.space.stores},
                       {"stores_failed", server.space.stores_failed}});
  }
  for (const SessionStatus& session : status.sessions) {
    sessions.push_back({{"session", session.session.value},
                        {"host", session.host},
                        {"mountpoint", session.mountpoint},
                        {"program", session.program},
                        {"idle_ms", session.idle_ms},
                        {"open_files", session.open_files},
                        {"shared_leases", session.shared_leases},
                        {"exclusive_leases", session.exclusive_leases},
                        {"unanswered_recalls", session.unanswered_recalls}});
  }
  for (const std::string& warning : status.warnings)
    warnings.push_back(boost::json::string(warning));
  const ChunkHealth& health = status.health;
  boost::json::object chunks{{"total", health.total},
                             {"healthy", health.healthy},
                             {"under_goal", health.under_goal},
                             {"at_risk", health.at_risk},
                             {"lost", health.lost},
                             {"open", health.open},
                             {"over_goal", health.over_goal},
                             {"unverified", health.unverified},
                             {"garbage", health.garbage}};
  return {{"cluster", to_string(status.cluster)},
          {"program", status.program},
          {"term", status.term},
          {"inodes", status.inodes},
          {"applied_index", status.applied_index},
          {"default_goal", status.default_goal},
          {"chunks", std::move(chunks)},
          {"masters", json_of_masters(group)},
          {"servers", std::move(servers)},
          {"sessions", std::move(sessions)},
          {"warnings", std::move(warnings)}};
}

void print(const StatusReply& status, const SeenGroup& group) {
  std::printf("cluster %s, %s, %llu files and directories, goal %u\n\n", to_string(status.cluster).c_str(),
              status.program.c_str(), static_cast<unsigned long long>(status.inodes), status.default_goal);
  std::printf("%s\n", print_masters(group).c_str());
  Table servers({"ID", "CHUNKSERVER", "STATE", "USED", "FREE", "CHUNKS", "DOMAIN"});
  for (const ServerStatus& server : status.servers) {
    std::string state = server.alive ? coloured("up", Colour::kGood)
                                     : coloured("silent " + human_duration_ms(server.silent_ms), Colour::kBad);
    uint64_t used = server.space.total_bytes - std::min(server.space.total_bytes, server.space.free_bytes);
    servers.row({to_string(server.server), server.address, state, human_bytes(used),
                 human_bytes(server.space.free_bytes), std::to_string(server.space.chunks), server.domain});
  }
  std::fputs(servers.str().c_str(), stdout);
  const ChunkHealth& health = status.health;
  std::printf(
      "\nchunks: %llu, of them %llu healthy, %llu open, %llu under their goal, %llu with a single copy, %llu lost\n",
      static_cast<unsigned long long>(health.total), static_cast<unsigned long long>(health.healthy),
      static_cast<unsigned long long>(health.open), static_cast<unsigned long long>(health.under_goal),
      static_cast<unsigned long long>(health.at_risk), static_cast<unsigned long long>(health.lost));
  if (!status.sessions.empty()) {
    std::printf("\n");
    Table sessions({"SESSION", "HOST", "MOUNTPOINT", "OPEN FILES", "PROGRAM"});
    for (const SessionStatus& session : status.sessions) {
      sessions.row({to_string(session.session), session.host, session.mountpoint.empty() ? "-" : session.mountpoint,
                    std::to_string(session.open_files), session.program});
    }
    std::fputs(sessions.str().c_str(), stdout);
  }
  std::printf("\n");
  for (const std::string& warning : status.warnings)
    std::printf("%s %s\n", coloured("warning:", Colour::kWarning).c_str(), warning.c_str());
  if (status.warnings.empty()) std::printf("%s\n", coloured("healthy", Colour::kGood).c_str());
}

Task<int> show(RealWorld& world, std::vector<Address> masters, bool json) {
  Result<std::shared_ptr<Credentials>> own = use_client_tls(world, masters);
  Result<StatusReply> status = co_await ask_masters(world, masters, StatusRequest{}, kAskLimit);
  SeenGroup group = co_await look_at_masters(world, masters);
  std::vector<std::string> of_masters = group.warnings();
  std::string expiry = own && *own ? (*own)->warning(world.clock().wall()) : std::string();
  if (!expiry.empty()) of_masters.push_back(std::move(expiry));
  if (!status) {
    complain("status", Error(status.code(),
                             "no master that leads answers at " + to_text(masters) + ": " + status.error().message()));
    for (const std::string& warning : of_masters)
      complain(warning);
    co_return kExitNotRunning;
  }
  status->warnings.insert(status->warnings.begin(), of_masters.begin(), of_masters.end());
  if (json) {
    std::printf("%s\n", boost::json::serialize(json_of(*status, group)).c_str());
  } else {
    print(*status, group);
  }
  co_return status->warnings.empty() ? kExitOk : kExitDegraded;
}

}  // namespace

void add_status_command(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<StatusArguments>();
  CLI::App* command =
      app.add_subcommand("status", "Health of the cluster (exit status 3 if something needs attention)");
  command->add_option("--master", arguments->masters, "Addresses of the masters: HOST:PORT[,HOST:PORT]");
  command->add_flag("--json", arguments->json, "For machines");
  command->callback([arguments, &action] {
    action = [arguments] {
      Result<std::vector<Address>> masters = find_masters(arguments->masters);
      if (!masters) return complain("status", masters.error());
      return run_on_loop([&](RealWorld& world) { return show(world, *masters, arguments->json); });
    };
  });
}

}  // namespace cairn
