#include "chunkserver/program.h"

#include <csignal>
#include <cstdio>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "chunkserver/server.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/runtime/future.h"
#include "common/runtime/notify_ready.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "common/tls/tls_settings.h"

namespace cairn {

namespace {

constexpr const char* kProgram = "cairn-chunkserver";

struct Settings {
  ChunkServerSettings server;
  TlsSettings tls;
  uint64_t inline_limit_bytes = StoreOptions{}.inline_limit_bytes;
  Duration poll = Duration::zero();
  std::string log_level = "info";
  std::string log_file;
};

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "";
}

ConfigScheme scheme_for(Settings& s) {
  ConfigScheme scheme("cairn-chunkserver: holds chunks on its disks and serves them.");
  scheme.section("chunkserver", "Where this chunkserver is reached, and whom it belongs to.");
  scheme.text("chunkserver.listen", &s.server.listen, {},
              "Address for clients, masters and other chunkservers: HOST:PORT, or unix:/PATH.");
  scheme.text("chunkserver.advertise", &s.server.advertise, {},
              "How others reach it, if not as it listens; needed when it listens on all addresses.");
  scheme.list("chunkserver.masters", &s.server.masters, {.required = true, .example = {"127.0.0.1:9400"}},
              "Addresses of all masters.");
  scheme.text("chunkserver.domain", &s.server.domain, {},
              "What fails together with this server (a rack, a room); empty: this host's name.");
  scheme.text("chunkserver.http", &s.server.http_listen, {}, "Address for /metrics and /health; empty: none.");
  scheme.duration("chunkserver.poll", &s.poll, {.max = std::chrono::milliseconds(10)},
                  "How long the loop polls for more work before it sleeps.");
  scheme.section("store", "The chunks on disk.");
  scheme.list("store.directories", &s.server.folders, {.required = true, .example = {"/var/lib/cairn/chunks"}},
              "Data directories, one a disk.");
  scheme.size("store.reserve", &s.server.store.reserve_bytes, {},
              "Free space of each disk that is never given to writers.");
  scheme.size("store.inline_limit", &s.inline_limit_bytes, {.max = kChunkSizeBytes},
              "Up to this size bytes are kept inside LevelDB, larger ones beside it.");
  scheme.size("store.clean_rate", &s.server.store.clean_bytes_per_second, {},
              "Bytes a second for rewriting segments that are mostly holes; 0: they stay.");
  scheme.size("store.scrub_rate", &s.server.scrubber.bytes_per_second, {},
              "Bytes a second for reading everything again and verifying it, an hour between rounds; 0: never.");
  scheme.section("memory", "Bounds on memory.");
  scheme.size("memory.unsynced", &s.server.store.unsynced_limit_bytes, {.min = 8 * kMiB},
              "Data of each directory that is not yet on disk; beyond it writers wait.");
  scheme.size("memory.cache", &s.server.store.cache_limit_bytes, {.min = kMiB},
              "Records and small data of each directory.");
  scheme.size("memory.connection", &s.server.connection_memory_bytes, {.min = 8 * kMiB},
              "Requests of one connection that are not yet answered.");
  add_tls_keys(scheme, &s.tls);
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

int complain(const Error& error) {
  std::fprintf(stderr, "%s: %s\n", kProgram, error.message().c_str());
  return 1;
}

// Ends with the reason to stop: nothing for a signal.
Task<void> wait_for_signal(RealWorld& world, Promise<int>& ended, std::shared_ptr<Credentials> credentials) {
  for (;;) {
    int signal = co_await world.next_signal();
    if (signal != SIGHUP) break;
    reopen_log();
    if (credentials) credentials->reload(world.clock().wall());
  }
  ended.set(0);
}

Task<int> live(RealWorld& world, ChunkServerSettings settings, std::shared_ptr<Credentials> credentials) {
  Promise<int> ended(world.executor());
  settings.on_fatal = [&ended](const Error& error) { ended.set(error); };
  ChunkServer server(world, std::move(settings));
  Result<void> started = co_await server.start();
  if (!started) {
    co_await server.stop();
    co_return complain(started.error());
  }
  // Gone before `ended`: a fatal error leaves it waiting for a signal that may never come.
  TaskGroup signals(world.executor(), world.clock());
  signals.spawn(wait_for_signal(world, ended, std::move(credentials)));
  notify_ready();  // whoever hears it may send a signal at once
  Result<int> reason = co_await ended.future();
  log_info("server.stopping", "reason={}", reason ? std::string("signal") : cairn::quoted(reason.error().message()));
  co_await server.stop();
  log_info("server.stopped", "address={}", to_string(server.address()));
  co_return reason ? 0 : complain(reason.error());
}

}  // namespace

int run_chunkserver_program(int argc, char** argv) {
  CLI::App app("cairn-chunkserver: holds the chunks of a Cairn cluster", kProgram);
  std::string config;
  std::vector<std::string> assignments;
  bool example = false;
  app.add_option("--config", config, "Configuration file (TOML)");
  app.add_option("--set", assignments, "section.key=value, over the file; may be repeated");
  app.add_flag("--example-config", example, "Print a commented configuration file and end");
  app.set_version_flag("--version", kProgram + (" " + std::string(kVersion)));
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
  if (loaded) loaded = check_settings(settings.server);
  if (!loaded) {
    std::fprintf(stderr, "%s: %s\n", kProgram, loaded.error().context.c_str());
    return 2;
  }
  if (settings.server.domain.empty()) settings.server.domain = host_name();
  settings.server.store.inline_limit_bytes = static_cast<uint32_t>(settings.inline_limit_bytes);
  settings.server.program = std::string(kProgram) + " " + std::string(kVersion);
  start_logging(kProgram, level_of(settings.log_level), settings.log_file);
  std::unique_ptr<RealWorld> world = RealWorld::make({.poll = settings.poll});
  RealWorld& real = *world;
  std::vector<std::string> folders;
  for (const std::string& folder : settings.server.folders)
    folders.push_back(tls_folder_beside(folder));
  Result<std::shared_ptr<Credentials>> credentials = use_tls(real, settings.tls, PeerRole::kChunkserver, folders);
  if (!credentials) return complain(credentials.error());
  return real.run(live(real, std::move(settings.server), std::move(*credentials)));
}

}  // namespace cairn
