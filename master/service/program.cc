#include "master/service/program.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/base/config.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/runtime/future.h"
#include "common/runtime/notify_ready.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "common/tls/tls_settings.h"
#include "master/service/master_server.h"

namespace cairn {

namespace {

struct Settings {
  MasterSettings master;
  TlsSettings tls;
  std::string log_level = "info";
  std::string log_file;
  int64_t default_goal = 3;
  int64_t default_min_copies = 2;
  int64_t expected_servers = 0;
  uint64_t cache_bytes = 256 * kMiB;
  uint64_t block_cache_bytes = 64 * kMiB;
  uint64_t log_reserve_bytes = 256 * kMiB;
  uint64_t checkpoint_log_bytes = 64 * kMiB;
  Duration session_time = std::chrono::seconds(10);
  Duration delete_grace = std::chrono::seconds(60);
  Duration server_dead = std::chrono::seconds(3);
  Duration repair_delay = std::chrono::seconds(15);
  Duration dump_interval = std::chrono::minutes(10);
  int64_t repairs_at_once = 8;
  Duration poll = Duration::zero();
};

ConfigScheme scheme_for(Settings& s) {
  ConfigScheme scheme("cairn-master: the namespace, the map from files to chunks, and the keeping of chunks.");
  scheme.section("master", "Where this master keeps its data, and where it is reached.");
  scheme.text("master.folder", &s.master.folder, {.required = true, .example = "/var/lib/cairn/master"},
              "Folder of this master: identity, log, state, checkpoints.");
  scheme.text("master.listen", &s.master.listen, {}, "Address for clients and chunkservers: HOST:PORT, or unix:/PATH.");
  scheme.text("master.advertise", &s.master.advertise, {}, "How others reach it, if not as it listens.");
  scheme.text("master.http", &s.master.http_listen, {}, "Address for /metrics and /health; empty: none.");
  scheme.duration("master.poll", &s.poll, {.max = std::chrono::milliseconds(10)},
                  "How long the loop polls for more work before it sleeps.");
  scheme.section("consensus", "Several masters agree on one log.");
  scheme.duration("consensus.election_timeout", &s.master.election_timeout,
                  {.min = std::chrono::milliseconds(100), .max = std::chrono::seconds(60)},
                  "A leader that is silent for so long (up to twice) is replaced.");
  scheme.duration("consensus.heartbeat", &s.master.heartbeat,
                  {.min = std::chrono::milliseconds(10), .max = std::chrono::seconds(10)},
                  "How often a leader is heard; well below the election timeout.");
  scheme.section("cluster", "What a new cluster is made with (--init); later it is kept in the log.");
  scheme.integer("cluster.default_goal", &s.default_goal, {.min = 1, .max = kMaxGoal},
                 "Replicas of a file, where nothing else is said.");
  scheme.integer("cluster.default_min_copies", &s.default_min_copies, {.min = 1, .max = kMaxGoal},
                 "Replicas without which fsync does not succeed.");
  scheme.integer("cluster.expected_servers", &s.expected_servers, {.min = 0, .max = 10'000},
                 "Chunkservers the cluster is made for; 0: not said.");
  scheme.duration("cluster.session_time", &s.session_time,
                  {.min = std::chrono::seconds(2), .max = std::chrono::minutes(10)},
                  "How long a silent client's session lives.");
  scheme.duration("cluster.delete_grace", &s.delete_grace, {.max = std::chrono::hours(24 * 30)},
                  "How long the bytes of a removed chunk are kept.");
  scheme.section("memory", "What is kept in memory.");
  scheme.size("memory.records", &s.cache_bytes, {.min = kMiB}, "Records of inodes, names and chunks.");
  scheme.size("memory.blocks", &s.block_cache_bytes, {.min = kMiB}, "Blocks of the state's tables.");
  scheme.section("disk", "The disk of the log.");
  scheme.size("disk.reserve", &s.log_reserve_bytes, {},
              "Below this much free space only what frees space is accepted.");
  scheme.size("disk.checkpoint", &s.checkpoint_log_bytes, {.min = kMiB},
              "A checkpoint of the state is made after so much log, or after 5 minutes.");
  scheme.section("chunks", "How chunks are kept.");
  scheme.duration("chunks.server_dead", &s.server_dead, {.min = std::chrono::seconds(1)},
                  "A chunkserver silent for so long gets no new chunks.");
  scheme.duration("chunks.repair_delay", &s.repair_delay, {.min = std::chrono::seconds(1)},
                  "A chunkserver silent for so long has its chunks copied elsewhere.");
  scheme.integer("chunks.repairs_at_once", &s.repairs_at_once, {.min = 1, .max = 1000},
                 "Copies under way at the same time.");
  add_tls_keys(scheme, &s.tls);
  scheme.section("rescue", "For when every master is lost (cairn rescue).");
  scheme.duration("rescue.interval", &s.dump_interval, {.max = std::chrono::hours(24)},
                  "Between copies of all metadata that are kept on the chunkservers; 0: none are.");
  scheme.section("log", "Lines about what happens.");
  scheme.text("log.level", &s.log_level, {.one_of = {"debug", "info", "warning", "error"}},
              "Lines below this level are left out.");
  scheme.text("log.file", &s.log_file, {}, "File to append to; empty: standard error. Reopened on SIGHUP.");
  return scheme;
}

LogLevel level_of(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

void apply(Settings& s) {
  s.master.default_goal = static_cast<uint8_t>(s.default_goal);
  s.master.default_min_copies = static_cast<uint8_t>(s.default_min_copies);
  s.master.expected_servers = static_cast<uint32_t>(s.expected_servers);
  s.master.session_time = s.session_time;
  s.master.delete_grace = s.delete_grace;
  s.master.log_reserve_bytes = s.log_reserve_bytes;
  s.master.checkpoint_log_bytes = s.checkpoint_log_bytes;
  s.master.state.cache_bytes = s.cache_bytes;
  s.master.state.block_cache_bytes = s.block_cache_bytes;
  s.master.keeper.server_dead_ms = static_cast<uint32_t>(s.server_dead / std::chrono::milliseconds(1));
  s.master.keeper.repair_delay_ms = static_cast<uint32_t>(s.repair_delay / std::chrono::milliseconds(1));
  s.master.keeper.dump_interval_ms = static_cast<uint32_t>(s.dump_interval / std::chrono::milliseconds(1));
  s.master.keeper.repairs_at_once = static_cast<uint32_t>(s.repairs_at_once);
}

// After a failed sync nobody knows what is on disk: the process ends at once, and its restart reads what is there.
[[noreturn]] void end_at_once(const Error& error) {
  std::fprintf(stderr, "cairn-master: %s\n", error.message().c_str());
  std::fflush(stderr);
  std::_Exit(1);
}

Task<void> wait_for_signal(RealWorld& world, Promise<int>& ended, std::shared_ptr<Credentials> credentials) {
  int signal = SIGHUP;
  while (signal == SIGHUP) {
    signal = co_await world.next_signal();
    if (signal != SIGHUP) break;
    reopen_log();
    if (credentials) credentials->reload(world.clock().wall());
  }
  ended.set(signal);
}

Task<int> live(RealWorld& world, MasterSettings settings, std::shared_ptr<Credentials> credentials) {
  Result<std::unique_ptr<MasterServer>> server = co_await MasterServer::start(world, std::move(settings));
  if (!server) {
    std::fprintf(stderr, "cairn-master: %s\n", server.error().message().c_str());
    co_return 1;
  }
  Promise<int> ended(world.executor());
  // Gone before `ended`, which it completes.
  TaskGroup signals(world.executor(), world.clock());
  signals.spawn(wait_for_signal(world, ended, std::move(credentials)));
  notify_ready();  // whoever hears it may send a signal at once
  Result<int> signal = co_await ended.future();
  log_info("master.stopping", "signal={}", signal.value_or(0));
  co_await (*server)->stop();
  log_info("master.stopped", "");
  co_return 0;
}

}  // namespace

int run_master_program(int argc, char** argv) {
  CLI::App app("cairn-master: the metadata server of a Cairn cluster", "cairn-master");
  std::string config;
  std::vector<std::string> assignments;
  bool init = false;
  bool join = false;
  bool example = false;
  app.add_option("--config", config, "Configuration file (TOML)");
  app.add_option("--set", assignments, "section.key=value, over the file; may be repeated");
  app.add_flag("--init", init, "Make a new cluster if the folder is empty");
  app.add_flag("--join", join, "If the folder is empty, wait to be added to a group ('cairn master add')");
  app.add_flag("--example-config", example, "Print a commented configuration file and end");
  app.set_version_flag("--version", "cairn-master " + std::string(kVersion));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Settings settings;
  ConfigScheme scheme = scheme_for(settings);
  if (example) {
    std::fputs(scheme.example().c_str(), stdout);
    return 0;
  }
  Result<void> loaded = scheme.load(config, assignments);
  if (!loaded) {
    std::fprintf(stderr, "cairn-master: %s\n", loaded.error().context.c_str());
    return 2;
  }
  apply(settings);
  if (init && join) {
    std::fputs("cairn-master: --init and --join exclude one another\n", stderr);
    return 2;
  }
  settings.master.make_cluster = init;
  settings.master.join = join;
  settings.master.program = "cairn-master " + std::string(kVersion);
  settings.master.on_fatal = end_at_once;
  start_logging("cairn-master", level_of(settings.log_level), settings.log_file);
  std::unique_ptr<RealWorld> world = RealWorld::make({.poll = settings.poll});
  RealWorld& real = *world;
  Result<std::shared_ptr<Credentials>> credentials =
      use_tls(real, settings.tls, PeerRole::kMaster, {tls_folder_beside(settings.master.folder)});
  if (!credentials) {
    std::fprintf(stderr, "cairn-master: %s\n", credentials.error().message().c_str());
    return 1;
  }
  if (*credentials) settings.master.cluster = (*credentials)->identity().cluster;
  return real.run(live(real, std::move(settings.master), std::move(*credentials)));
}

}  // namespace cairn
