// cairn metadata: the cluster's metadata as a file, and back: export, verify, import, check, accept.
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <boost/json.hpp>
#include <fmt/chrono.h>

#include "common/dump/dump_format.h"
#include "common/rpc/retry.h"
#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/local_cluster.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {

struct Arguments {
  std::string masters, file, folder, address;
  std::vector<std::string> servers;
  bool json = false;
};

constexpr Duration kAskLimit = std::chrono::seconds(15);  // one part, or one answer
constexpr uint32_t kPage = 4096;

std::string when(int64_t wall_ns) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(wall_ns / 1'000'000'000)));
}

// By the first byte of the key: docs/formats.md, "Metadata records".
const char* kind_name(char kind) {
  switch (kind) {
    case 'A': return "cluster";
    case 'B': return "counters";
    case 'a': return "chunks_needing_attention";
    case 'c': return "chunks";
    case 'd': return "names";
    case 'e': return "listing";
    case 'g': return "garbage";
    case 'h': return "garbage_by_time";
    case 'i': return "inodes";
    case 'n': return "sessions";
    case 'o': return "open_chunks";
    case 'p': return "orphans";
    case 'q': return "orphans_of_sessions";
    case 'r': return "chunk_refs";
    case 's': return "chunks_of_servers";
    case 'v': return "servers";
    case 'w': return "work";
    case 'x': return "xattrs";
    case 'y': return "stored_replies";
    default: return "unknown";
  }
}

DumpSource source_of(File& file) {
  return [&file](uint64_t offset, size_t bytes) -> Result<std::string> {
    std::string out(bytes, '\0');
    size_t got = 0;
    while (got < bytes) {
      Result<size_t> read = file.read(offset + got, std::as_writable_bytes(std::span(out.data() + got, bytes - got)));
      if (!read) return read.error();
      if (*read == 0) break;
      got += *read;
    }
    out.resize(got);
    return out;
  };
}

Result<DumpSummary> verify(Disk& disk, const std::string& path) {
  Result<std::unique_ptr<File>> file = disk.open(path, OpenFlags{.read_only = true});
  if (!file) return file.error();
  Result<DumpSummary> read =
      read_dump(source_of(**file), [](std::string_view, std::string_view) -> Result<void> { return {}; });
  return read;
}

uint64_t count_of(const DumpSummary& dump, char kind) {
  auto found = dump.records_of_kind.find(kind);
  return found == dump.records_of_kind.end() ? 0 : found->second;
}

void print_dump(const std::string& path, const DumpSummary& dump, bool json) {
  if (json) {
    boost::json::object kinds;
    for (const auto& [kind, count] : dump.records_of_kind)
      kinds[kind_name(kind)] = count;
    boost::json::object out{{"file", path},
                            {"cluster", to_string(dump.header.cluster)},
                            {"made", when(dump.header.wall_ns)},
                            {"program", dump.header.program},
                            {"applied_index", dump.header.applied_index},
                            {"applied_term", dump.header.applied_term},
                            {"log_time_ms", dump.header.log_time_ms},
                            {"pages", dump.pages},
                            {"records", dump.records},
                            {"record_bytes", dump.raw_bytes},
                            {"file_bytes", dump.file_bytes},
                            {"kinds", std::move(kinds)}};
    std::printf("%s\n", boost::json::serialize(out).c_str());
    return;
  }
  std::printf("%s: whole; cluster %s at %s, by %s\n", path.c_str(), to_string(dump.header.cluster).c_str(),
              when(dump.header.wall_ns).c_str(), dump.header.program.c_str());
  std::printf("%llu inodes, %llu names, %llu chunks; %llu records (%s) in %s\n",
              static_cast<unsigned long long>(count_of(dump, 'i')), static_cast<unsigned long long>(count_of(dump, 'd')),
              static_cast<unsigned long long>(count_of(dump, 'c')), static_cast<unsigned long long>(dump.records),
              human_bytes(dump.raw_bytes).c_str(), human_bytes(dump.file_bytes).c_str());
}

// ---------------------------------------------------------------- export

// All parts of one export, from the one master that began it, appended to `file`. kNotLeader of a master that does not
// lead.
Task<Result<uint64_t>> receive(RealWorld& world, Address master, File& file) {
  RpcClientOptions options;
  options.hello.program = "cairn";
  RpcClient client(world, master, options);
  ExportRequest request;
  uint64_t size = 0;
  Result<uint64_t> outcome = size;
  for (bool last = false; !last;) {
    RpcClient::CallOptions call{.deadline = world.clock().now() + kAskLimit,
                                .answer_bytes_hint = static_cast<uint32_t>(2 * kDumpPageBytes)};
    auto answer = co_await typed_call(client, request, call);
    // Asked again, the part that was lost on the way comes once more.
    bool again = !answer && request.export_id != 0 && worth_retrying(answer.code());
    if (again) answer = co_await typed_call(client, request, {.deadline = world.clock().now() + kAskLimit});
    if (!answer) {
      outcome = answer.error();
      break;
    }
    for (const Buffer& piece : answer->payload) {
      Result<void> written = file.write(size, piece.span());
      if (!written) {
        outcome = written.error();
        break;
      }
      size += piece.size();
      outcome = size;
    }
    if (!outcome) break;
    request.export_id = answer->reply.export_id;
    ++request.part;
    last = answer->reply.last;
  }
  co_await client.stop();
  co_return outcome;
}

// All parts come from one master: the one that leads now.
Task<Result<Address>> find_leader(RealWorld& world, std::vector<Address> masters) {
  const TimePoint deadline = world.clock().now() + kAskLimit;
  Result<std::shared_ptr<Credentials>> secured = use_client_tls(world, masters);
  if (!secured) co_return secured.error();
  LeaderFinder finder(world, masters, "cairn");
  finder.start();
  Result<Address> leader = Error(ErrorCode::kUnavailable, "no master at " + to_text(masters));
  while (!leader && world.clock().now() < deadline) {
    auto answer = co_await finder.ask_once(RestoreStatusRequest{.count = 1}, deadline);
    if (answer && finder.leader() != nullptr) {
      leader = *finder.leader();
    } else if (!answer && !is_masters_trouble(answer.code())) {
      leader = answer.error();
      break;
    }
  }
  co_await finder.stop();
  co_return leader;
}

Task<int> export_to(RealWorld& world, std::vector<Address> masters, Arguments arguments) {
  Disk& disk = world.disk();
  const std::string part = arguments.file + ".part";
  // Names of files, owners and the like: for its owner's eyes only, from its first byte on.
  umask(077);
  Result<std::unique_ptr<File>> file = disk.open(part, OpenFlags{.create = true, .truncate = true});
  if (!file) co_return complain("metadata export", file.error());
  Result<uint64_t> size = Error(ErrorCode::kUnavailable);
  Result<Address> leader = co_await find_leader(world, std::move(masters));
  if (leader) {
    size = co_await receive(world, *leader, **file);
  } else {
    size = leader.error();
  }
  Result<void> done;
  if (!size) done = size.error();
  if (done) done = (*file)->sync();
  Result<DumpSummary> read = done ? verify(disk, part) : Result<DumpSummary>(done.error());
  if (read) done = disk.rename(part, arguments.file);
  if (read && done) {
    size_t slash = arguments.file.rfind('/');
    done = disk.sync_folder(slash == std::string::npos ? "." : slash == 0 ? "/" : arguments.file.substr(0, slash));
  }
  if (!read || !done) {
    Result<void> removed = disk.remove(part);
    (void)removed;  // what is wrong is said below
    co_return complain("metadata export", read ? done.error() : read.error());
  }
  print_dump(arguments.file, *read, arguments.json);
  co_return kExitOk;
}

// ---------------------------------------------------------------- import

// The master's program does it: it has the state machine.
int run_master(const char* what, std::vector<std::string> words) {
  Result<std::string> program = find_program("cairn-master");
  if (!program) return complain(what, program.error());
  words.insert(words.begin(), *program);
  std::vector<char*> argv;
  for (std::string& word : words)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(program->c_str(), argv.data());
  return complain(what, errno_error("starting " + *program));
}

int import_dump(const Arguments& arguments) {
  return run_master("metadata import", {"import", arguments.file, "--folder", arguments.folder, "--address",
                                        arguments.address});
}

int rescue(const Arguments& arguments) {
  std::vector<std::string> words = {"rescue", "--folder", arguments.folder, "--address", arguments.address};
  for (const std::string& server : arguments.servers)
    words.insert(words.end(), {"--server", server});
  if (arguments.json) words.push_back("--json");
  return run_master("rescue", std::move(words));
}

// ---------------------------------------------------------------- check, accept

boost::json::object json_of(const UnknownChunk& chunk) {
  return {{"chunk", to_string(chunk.chunk)}, {"inode", chunk.inode.value},   {"index", chunk.index},
          {"length", chunk.length},          {"version", chunk.version}, {"replicas", chunk.replicas}};
}

void print_check(const RestoreStatusReply& status) {
  if (status.restored) {
    std::printf("the metadata is of %s (%s)%s\n", when(status.taken_ns).c_str(),
                status.from_chunkservers ? "rescued from chunkservers" : "imported",
                status.settled ? "" : "; not every chunkserver has said what it holds");
    for (const std::string& address : status.waiting_for)
      std::printf("waiting for %s\n", address.c_str());
  } else {
    std::printf("nothing was restored, or it has been accepted\n");
  }
  std::printf("%llu chunks on chunkservers are of no file\n", static_cast<unsigned long long>(status.unknown_chunks));
  for (const UnknownChunk& chunk : status.chunks)
    std::printf("  chunk %s: %u bytes at index %u of inode %llu, on %u servers\n", to_string(chunk.chunk).c_str(),
                chunk.length, chunk.index, static_cast<unsigned long long>(chunk.inode.value), chunk.replicas);
  std::printf("%llu chunks of files have no copy\n", static_cast<unsigned long long>(status.lost_chunks));
  for (const UnknownChunk& chunk : status.lost)
    std::printf("  chunk %s: index %u of inode %llu\n", to_string(chunk.chunk).c_str(), chunk.index,
                static_cast<unsigned long long>(chunk.inode.value));
}

Task<int> check(RealWorld& world, std::vector<Address> masters, bool json) {
  Result<RestoreStatusReply> all = co_await ask_masters(world, masters, RestoreStatusRequest{.count = kPage}, kAskLimit);
  if (!all) co_return complain("metadata check", all.error());
  for (size_t last = all->chunks.size(); last == kPage;) {
    RestoreStatusRequest next{.after = all->chunks.back().chunk, .count = kPage};
    Result<RestoreStatusReply> more = co_await ask_masters(world, masters, next, kAskLimit);
    if (!more) co_return complain("metadata check", more.error());
    last = more->chunks.size();
    all->chunks.insert(all->chunks.end(), more->chunks.begin(), more->chunks.end());
  }
  bool fine = !all->restored && all->lost_chunks == 0;
  if (!json) {
    print_check(*all);
    co_return fine ? kExitOk : kExitDegraded;
  }
  boost::json::array chunks, lost, waiting;
  for (const UnknownChunk& chunk : all->chunks)
    chunks.push_back(json_of(chunk));
  for (const UnknownChunk& chunk : all->lost)
    lost.push_back(json_of(chunk));
  for (const std::string& address : all->waiting_for)
    waiting.push_back(boost::json::string(address));
  boost::json::object out{{"restored", all->restored},
                          {"from_chunkservers", all->from_chunkservers},
                          {"made", all->restored ? when(all->taken_ns) : std::string()},
                          {"settled", all->settled},
                          {"waiting_for", std::move(waiting)},
                          {"unknown_chunks", all->unknown_chunks},
                          {"unknown_bytes", all->unknown_bytes},
                          {"stale_replicas", all->stale_replicas},
                          {"lost_chunks", all->lost_chunks},
                          {"chunks", std::move(chunks)},
                          {"lost", std::move(lost)}};
  std::printf("%s\n", boost::json::serialize(out).c_str());
  co_return fine ? kExitOk : kExitDegraded;
}

Task<int> accept(RealWorld& world, std::vector<Address> masters) {
  Result<EmptyReply> accepted = co_await ask_masters(world, std::move(masters), AcceptRestoreRequest{}, kAskLimit);
  if (!accepted) co_return complain("metadata accept", accepted.error());
  std::printf("accepted; what belongs to no file is deleted after its grace time\n");
  co_return kExitOk;
}

void add_export(CLI::App& metadata, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = metadata.add_subcommand("export", "Write all metadata to a file, while the cluster runs");
  command->add_option("file", arguments->file, "To be made, or replaced")->required();
  command->add_option("--master", arguments->masters, "Addresses of the masters: HOST:PORT[,HOST:PORT]");
  command->add_flag("--json", arguments->json, "For machines");
  command->callback([arguments, &action] {
    action = [arguments] {
      Result<std::vector<Address>> masters = find_masters(arguments->masters);
      if (!masters) return complain("metadata export", masters.error());
      return run_on_loop([&](RealWorld& world) { return export_to(world, *masters, *arguments); });
    };
  });
}

void add_verify(CLI::App& metadata, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = metadata.add_subcommand("verify", "Check an export, and say what it holds");
  command->add_option("file", arguments->file, "Made by cairn metadata export")->required();
  command->add_flag("--json", arguments->json, "For machines");
  command->callback([arguments, &action] {
    action = [arguments] {
      std::unique_ptr<RealWorld> world = RealWorld::make({});
      Result<DumpSummary> dump = verify(world->disk(), arguments->file);
      if (!dump) return complain("metadata verify " + arguments->file, dump.error());
      print_dump(arguments->file, *dump, arguments->json);
      return kExitOk;
    };
  });
}

void add_import(CLI::App& metadata, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = metadata.add_subcommand("import", "Make a new master's folder of an export, when all masters are lost");
  command->add_option("file", arguments->file, "Made by cairn metadata export")->required();
  command->add_option("--folder", arguments->folder, "Of the new master: absent, or empty")->required();
  command->add_option("--address", arguments->address, "Where the new master will be reached: HOST:PORT")->required();
  command->callback([arguments, &action] { action = [arguments] { return import_dump(*arguments); }; });
}

}  // namespace

void add_metadata_commands(CLI::App& app, Action& action) {
  CLI::App* metadata = app.add_subcommand("metadata", "The cluster's metadata as a file, and back");
  metadata->require_subcommand(1);
  add_export(*metadata, action);
  add_verify(*metadata, action);
  add_import(*metadata, action);
  auto arguments = std::make_shared<Arguments>();
  CLI::App* check_command =
      metadata->add_subcommand("check", "After an import: what chunkservers hold of no file, and what files miss");
  check_command->add_option("--master", arguments->masters, "Addresses of the masters: HOST:PORT[,HOST:PORT]");
  check_command->add_flag("--json", arguments->json, "For machines");
  check_command->callback([arguments, &action] {
    action = [arguments] {
      Result<std::vector<Address>> masters = find_masters(arguments->masters);
      if (!masters) return complain("metadata check", masters.error());
      return run_on_loop([&](RealWorld& world) { return check(world, *masters, arguments->json); });
    };
  });
  auto accepted = std::make_shared<Arguments>();
  CLI::App* accept_command =
      metadata->add_subcommand("accept", "After an import: chunks of no file may be deleted from now on");
  accept_command->add_option("--master", accepted->masters, "Addresses of the masters: HOST:PORT[,HOST:PORT]");
  accept_command->callback([accepted, &action] {
    action = [accepted] {
      Result<std::vector<Address>> masters = find_masters(accepted->masters);
      if (!masters) return complain("metadata accept", masters.error());
      return run_on_loop([&](RealWorld& world) { return accept(world, *masters); });
    };
  });
}

void add_rescue_command(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "rescue", "Make a new master's folder of what chunkservers keep, when all masters and exports are lost");
  command->add_option("--server", arguments->servers, "Address of a chunkserver; name all that there are")->required();
  command->add_option("--folder", arguments->folder, "Of the new master: absent, or empty")->required();
  command->add_option("--address", arguments->address, "Where the new master will be reached: HOST:PORT")->required();
  command->add_flag("--json", arguments->json, "For machines");
  command->callback([arguments, &action] { action = [arguments] { return rescue(*arguments); }; });
}

}  // namespace cairn
