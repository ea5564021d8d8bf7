// How many changes of names a cluster's masters take a second, and how long each takes, through the whole path: a
// client's session and connection, the state machine, the log. No mount and no kernel in between.
//
// bench/cluster/mutations.py starts clusters and runs this.
#include <algorithm>
#include <cstdio>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/version.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "common/tls/tls_settings.h"
#include "fs/client/master_link.h"

namespace cairn {
namespace {

constexpr double kRemovedPerSecond = 3000;  // unlink removes a number of files, not for a time
constexpr uint32_t kGrantsAtOnce = 64;
constexpr uint32_t kChunkBytes = 4096;  // what a file is said to hold; nothing is written anywhere

struct Options {
  std::string masters = "127.0.0.1:9400";
  std::vector<uint32_t> in_flight = {1, 16, 256};
  double seconds = 5;
  std::string kind = "create";
  uint32_t sessions = 1;
  uint32_t directories = 16;
  uint64_t fill = 0;
  bool chunks = false;
  uint64_t background = 0;
  double pause_ms = 20;
  std::string tls_folder;
};

double millis(Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

Result<std::vector<Address>> addresses_of(const std::string& text) {
  std::vector<Address> out;
  for (const std::string& one : CLI::detail::split(text, ',')) {
    Result<Address> address = parse_address(one);
    if (!address) return address.error();
    out.push_back(std::move(*address));
  }
  return out;
}

// What one measured stream has seen.
struct Record {
  std::vector<Duration> latencies;
  struct Pause {
    Duration at{};  // since the beginning
    Duration length{};
  };
  std::vector<Pause> pauses;  // the longest wait for a single change, where it is longer than Options::pause_ms
  uint64_t failures = 0;
};

// A file that is there, of one worker.
struct File {
  InodeId inode;
  InodeId directory;
  std::string name;
};

class Bench {
 public:
  Bench(RealWorld& world, const Options& options)
      : world_(world), options_(options), tasks_(world.executor(), world.clock()) {}

  Task<int> main();

 private:
  Task<bool> open();
  Task<bool> make_directories();
  Task<bool> fill();
  Task<void> fill_some(size_t worker);
  Task<void> measure(uint32_t in_flight, bool last);
  Task<void> make_victims(size_t worker, std::deque<File>& files);
  Task<void> work(size_t worker, Record& record, std::deque<File>& files, TimePoint begun);
  // One change of the kind asked for; `turn` counts them.
  Task<bool> change(size_t worker, uint64_t turn, std::deque<File>& files);
  Task<bool> create(size_t worker, FileType type, std::deque<File>& files);
  Task<bool> rename(size_t worker, std::deque<File>& files);
  Task<bool> set_mode(size_t worker, std::deque<File>& files, uint64_t turn);
  Task<bool> unlink(size_t worker, std::deque<File>& files);
  Task<bool> take_grants(size_t worker);
  Task<bool> give_chunk(size_t worker, InodeId inode);
  MasterLink& link(size_t worker) { return *links_[worker % links_.size()]; }
  std::string fresh_name();
  void print(uint32_t in_flight, Record& record, double seconds) const;

  RealWorld& world_;
  const Options& options_;
  std::vector<std::unique_ptr<MasterLink>> links_;
  std::vector<InodeId> directories_;
  struct Grants {
    std::deque<ChunkGrant> ready;
  };
  std::vector<Grants> grants_;  // of each session
  uint64_t next_name_ = 0;
  uint64_t left_ = 0;
  bool failed_ = false;
  TimePoint until_{};
  TaskGroup tasks_;
};

Task<bool> Bench::open() {
  Result<std::vector<Address>> masters = addresses_of(options_.masters);
  if (!masters) {
    std::fprintf(stderr, "mutation_bench: %s\n", masters.error().message().c_str());
    co_return false;
  }
  for (uint32_t i = 0; i < options_.sessions; ++i) {
    ClientOptions client;
    client.masters = *masters;
    client.host = "bench";
    client.program = "mutation_bench " + std::string(kVersion);
    links_.push_back(std::make_unique<MasterLink>(world_, client));
    Result<void> opened = co_await links_.back()->open_session();
    if (!opened) {
      std::fprintf(stderr, "mutation_bench: %s\n", opened.error().message().c_str());
      co_return false;
    }
  }
  grants_.resize(links_.size());
  co_return true;
}

// Names are as long as people's are, and do not come in order.
std::string Bench::fresh_name() {
  uint64_t n = next_name_++;
  char name[64];
  std::snprintf(name, sizeof name, "%08x-measurement-%07llu.dat", static_cast<unsigned>(n * 2654435761u),
                static_cast<unsigned long long>(n));
  return name;
}

Task<bool> Bench::make_directories() {
  std::string run = "bench-" + std::to_string(world_.clock().wall().ns);
  Result<MutationReply> top = co_await links_[0]->mutate(
      CreateOp{.parent = kRootInode, .name = run, .type = FileType::kDirectory, .mode = 0755});
  for (uint32_t i = 0; top && i < options_.directories; ++i) {
    Result<MutationReply> made = co_await links_[0]->mutate(CreateOp{.parent = top->attributes.inode,
                                                                     .name = "directory-" + std::to_string(i),
                                                                     .type = FileType::kDirectory,
                                                                     .mode = 0755});
    if (!made) {
      top = made.error();
      break;
    }
    directories_.push_back(made->attributes.inode);
  }
  if (!top) std::fprintf(stderr, "mutation_bench: mkdir: %s\n", top.error().message().c_str());
  co_return top.has_value();
}

// New chunkservers take a moment to be known.
Task<bool> Bench::take_grants(size_t worker) {
  TimePoint limit = world_.clock().now() + std::chrono::seconds(30);
  while (true) {
    GrantChunksOp op;
    op.placements.resize(kGrantsAtOnce);
    Result<MutationReply> granted = co_await link(worker).mutate(std::move(op));
    if (granted) {
      std::ranges::move(granted->grants, std::back_inserter(grants_[worker % links_.size()].ready));
      co_return true;
    }
    if (!granted.failed_with(ErrorCode::kTooFewReplicas) || world_.clock().now() > limit) {
      std::fprintf(stderr, "mutation_bench: grant: %s\n", granted.error().message().c_str());
      co_return false;
    }
    Result<void> slept = co_await tasks_.sleep_for(std::chrono::milliseconds(200));
    if (!slept) co_return false;
  }
}

Task<bool> Bench::give_chunk(size_t worker, InodeId inode) {
  Grants& grants = grants_[worker % links_.size()];
  if (grants.ready.empty()) {
    bool granted = co_await take_grants(worker);
    if (!granted) co_return false;
  }
  ChunkGrant grant = std::move(grants.ready.front());
  grants.ready.pop_front();
  CommitOp commit;
  commit.inode = inode;
  commit.size_at_least = kChunkBytes;
  commit.chunks.push_back({.chunk = grant.chunk,
                           .version = grant.version,
                           .allocated_bytes = kChunkBytes,
                           .length = kChunkBytes,
                           .seal = true});
  Result<MutationReply> committed = co_await link(worker).mutate(std::move(commit));
  if (!committed) std::fprintf(stderr, "mutation_bench: commit: %s\n", committed.error().message().c_str());
  co_return committed.has_value();
}

Task<bool> Bench::create(size_t worker, FileType type, std::deque<File>& files) {
  CreateOp op;
  op.parent = directories_[next_name_ % directories_.size()];
  op.name = fresh_name();
  op.type = type;
  op.mode = type == FileType::kDirectory ? 0755 : 0644;
  File file{.directory = op.parent, .name = op.name};
  Result<MutationReply> made = co_await link(worker).mutate(std::move(op));
  if (!made) co_return false;
  file.inode = made->attributes.inode;
  files.push_back(std::move(file));
  co_return true;
}

Task<bool> Bench::rename(size_t worker, std::deque<File>& files) {
  File& file = files.front();
  RenameOp op{.parent = file.directory, .name = file.name, .new_parent = file.directory, .new_name = fresh_name()};
  std::string name = op.new_name;
  Result<MutationReply> done = co_await link(worker).mutate(std::move(op));
  if (done) files.front().name = name;
  co_return done.has_value();
}

Task<bool> Bench::set_mode(size_t worker, std::deque<File>& files, uint64_t turn) {
  SetAttributesOp op{.inode = files.front().inode, .mode = turn % 2 == 0 ? 0600 : 0644};
  Result<MutationReply> done = co_await link(worker).mutate(std::move(op));
  co_return done.has_value();
}

Task<bool> Bench::unlink(size_t worker, std::deque<File>& files) {
  UnlinkOp op{.parent = files.front().directory, .name = files.front().name};
  files.pop_front();
  Result<MutationReply> done = co_await link(worker).mutate(std::move(op));
  co_return done.has_value();
}

Task<bool> Bench::change(size_t worker, uint64_t turn, std::deque<File>& files) {
  if (options_.kind == "mkdir") return create(worker, FileType::kDirectory, files);
  if (options_.kind == "setattr" && !files.empty()) return set_mode(worker, files, turn);
  if (options_.kind == "unlink") return unlink(worker, files);
  if (options_.kind != "mixed" || files.empty()) return create(worker, FileType::kRegular, files);
  switch (turn % 4) {
    case 0:
      return create(worker, FileType::kRegular, files);
    case 1:
      return set_mode(worker, files, turn);
    case 2:
      return rename(worker, files);
    default:
      return unlink(worker, files);
  }
}

// What is to be removed.
Task<void> Bench::make_victims(size_t worker, std::deque<File>& files) {
  while (left_ > 0 && !failed_) {
    --left_;
    bool made = co_await create(worker, FileType::kRegular, files);
    if (made && options_.chunks) made = co_await give_chunk(worker, files.back().inode);
    if (!made) failed_ = true;
  }
}

Task<void> Bench::work(size_t worker, Record& record, std::deque<File>& files, TimePoint begun) {
  bool removes = options_.kind == "unlink";
  for (uint64_t turn = 0; !failed_; ++turn) {
    TimePoint asked = world_.clock().now();
    if (removes ? files.empty() : asked >= until_) break;
    bool done = co_await change(worker, turn, files);
    Duration took = world_.clock().now() - asked;
    if (!done) ++record.failures;
    record.latencies.push_back(took);
    if (millis(took) >= options_.pause_ms) record.pauses.push_back({asked - begun, took});
    // What is only kept to be changed again must not become most of this program's memory.
    while (files.size() > 4 && !removes)
      files.pop_front();
  }
}

void Bench::print(uint32_t in_flight, Record& record, double seconds) const {
  std::vector<Duration>& all = record.latencies;
  if (all.empty()) return;
  std::sort(all.begin(), all.end());
  auto at = [&](double part) { return millis(all[static_cast<size_t>(static_cast<double>(all.size() - 1) * part)]); };
  std::printf(
      "{\"kind\": \"%s\", \"in_flight\": %u, \"changes\": %zu, \"per_second\": %.0f, \"p50_ms\": %.3f, "
      "\"p99_ms\": %.3f, \"p999_ms\": %.3f, \"max_ms\": %.3f, \"failures\": %llu, \"pauses\": [",
      options_.kind.c_str(), in_flight, all.size(), static_cast<double>(all.size()) / seconds, at(0.5), at(0.99),
      at(0.999), millis(all.back()), static_cast<unsigned long long>(record.failures));
  std::ranges::sort(record.pauses, {}, [](const Record::Pause& pause) { return -pause.length; });
  for (size_t i = 0; i < std::min<size_t>(record.pauses.size(), 10); ++i) {
    std::printf("%s[%.3f, %.1f]", i == 0 ? "" : ", ", millis(record.pauses[i].at) / 1000,
                millis(record.pauses[i].length));
  }
  std::printf("]}\n");
  std::fflush(stdout);
}

Task<void> Bench::measure(uint32_t in_flight, bool last) {
  std::vector<std::deque<File>> files(in_flight + options_.background);
  if (options_.kind == "unlink") {
    left_ = static_cast<uint64_t>(options_.seconds * kRemovedPerSecond);
    TaskGroup makers(world_.executor(), world_.clock());
    for (size_t i = 0; i < files.size(); ++i)
      makers.spawn(make_victims(i, files[i]));
    co_await makers.stop();
    std::printf("# made\n");
    std::fflush(stdout);
  }
  TimePoint begun = world_.clock().now();
  until_ = begun + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options_.seconds));
  Record record;
  Record others;
  TaskGroup workers(world_.executor(), world_.clock());
  for (size_t i = 0; i < files.size(); ++i)
    workers.spawn(work(i, i < in_flight ? record : others, files[i], begun));
  co_await workers.stop();
  double seconds = millis(world_.clock().now() - begun) / 1000;
  print(in_flight, record, seconds);
  if (options_.background > 0) {
    std::printf("# beside it, %llu in flight: %.0f changes/s\n", static_cast<unsigned long long>(options_.background),
                static_cast<double>(others.latencies.size()) / seconds);
  }
  if (record.failures + others.failures > 0 || (last && failed_)) failed_ = true;
}

Task<void> Bench::fill_some(size_t worker) {
  std::deque<File> files;
  while (left_ > 0 && !failed_) {
    --left_;
    bool made = co_await create(worker, FileType::kRegular, files);
    if (made && options_.chunks) made = co_await give_chunk(worker, files.back().inode);
    if (!made) failed_ = true;
    files.clear();
  }
}

Task<bool> Bench::fill() {
  TimePoint begun = world_.clock().now();
  left_ = options_.fill;
  TaskGroup workers(world_.executor(), world_.clock());
  for (size_t i = 0; i < 256; ++i)
    workers.spawn(fill_some(i));
  co_await workers.stop();
  double seconds = millis(world_.clock().now() - begun) / 1000;
  std::printf("# filled: %llu files%s in %.1f s, %.0f/s\n", static_cast<unsigned long long>(options_.fill),
              options_.chunks ? " with a chunk each" : "", seconds, static_cast<double>(options_.fill) / seconds);
  std::fflush(stdout);
  co_return !failed_;
}

Task<int> Bench::main() {
  bool ready = co_await open();
  if (ready) ready = co_await make_directories();
  if (ready && options_.chunks) ready = co_await take_grants(0);
  if (ready && options_.fill > 0) ready = co_await fill();
  if (ready) {
    for (size_t i = 0; i < options_.in_flight.size() && !failed_; ++i)
      co_await measure(options_.in_flight[i], i + 1 == options_.in_flight.size());
  }
  for (std::unique_ptr<MasterLink>& one : links_)
    co_await one->close(world_.clock().now() + std::chrono::seconds(2));
  co_await tasks_.stop();
  co_return ready && !failed_ ? 0 : 1;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  CLI::App app("Changes of names a second at a cluster's masters; one line of JSON for each number in flight",
               "mutation_bench");
  cairn::Options options;
  app.add_option("--masters", options.masters, "HOST:PORT,...")->capture_default_str();
  app.add_option("--in-flight", options.in_flight, "How many changes are under way at once")->delimiter(',');
  app.add_option("--seconds", options.seconds, "For each number in flight")->capture_default_str();
  app.add_option("--kind", options.kind, "create, mkdir, setattr, unlink, or mixed (create, chmod, rename, unlink)")
      ->check(CLI::IsMember({"create", "mkdir", "setattr", "unlink", "mixed"}))
      ->capture_default_str();
  app.add_option("--sessions", options.sessions, "Sessions, a connection each")->check(CLI::PositiveNumber);
  app.add_option("--directories", options.directories, "Directories that it works in")->check(CLI::PositiveNumber);
  app.add_option("--fill", options.fill, "First makes so many files, as fast as it can, 256 at once");
  app.add_flag("--chunks", options.chunks, "Files get a sealed chunk each (by record only: needs chunkservers)");
  app.add_option("--background", options.background, "So many more in flight beside those that are measured");
  app.add_option("--pause-ms", options.pause_ms, "Longer waits are listed: [second, ms]")->capture_default_str();
  app.add_option("--tls", options.tls_folder, "Folder with a client's certificate; without: in clear");
  CLI11_PARSE(app, argc, argv);
  cairn::set_log_level(cairn::LogLevel::kWarning);
  std::unique_ptr<cairn::RealWorld> world = cairn::RealWorld::make({});
  if (!options.tls_folder.empty()) {
    cairn::TlsSettings tls{.mode = "on"};
    auto used = cairn::use_tls(*world, tls, cairn::PeerRole::kClient, {options.tls_folder});
    if (!used) {
      std::fprintf(stderr, "mutation_bench: %s\n", used.error().message().c_str());
      return 1;
    }
  }
  cairn::Bench bench(*world, options);
  return world->run(bench.main());
}
