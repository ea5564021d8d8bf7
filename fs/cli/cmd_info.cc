// cairn info PATH: where a file is, and at what risk.
#include <cerrno>
#include <cstdio>
#include <fmt/core.h>
#include <memory>
#include <string>
#include <sys/stat.h>

#include <boost/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {

struct InfoArguments {
  std::string path, masters;
  bool json = false;
};

constexpr Duration kAskLimit = std::chrono::seconds(8);

const char* type_name(FileType type) {
  switch (type) {
    case FileType::kRegular:
      return "file";
    case FileType::kDirectory:
      return "directory";
    case FileType::kSymlink:
      return "symlink";
    case FileType::kFifo:
      return "fifo";
    case FileType::kSocket:
      return "socket";
    case FileType::kCharDevice:
      return "character device";
    case FileType::kBlockDevice:
      return "block device";
  }
  return "?";
}

boost::json::object json_of(const std::string& path, const InfoReply& info) {
  boost::json::array chunks;
  for (const ChunkInfo& chunk : info.chunks) {
    boost::json::array replicas;
    for (const ReplicaInfo& replica : chunk.replicas) {
      replicas.push_back({{"server", to_string(replica.server)},
                          {"address", replica.address},
                          {"alive", replica.alive},
                          {"state", replica.state}});
    }
    chunks.push_back({{"index", chunk.index},
                      {"chunk", to_string(chunk.chunk)},
                      {"version", chunk.version},
                      {"state", chunk.state == ChunkState::kSealed ? "sealed" : "open"},
                      {"length", chunk.length},
                      {"replicas", std::move(replicas)}});
  }
  const Attributes& a = info.attributes;
  return {{"path", path},
          {"inode", a.inode.value},
          {"type", type_name(a.type)},
          {"size", a.size},
          {"allocated_bytes", a.allocated_bytes},
          {"goal", a.goal},
          {"min_copies", a.min_copies},
          {"chunks_total", info.chunks_total},
          {"chunks", std::move(chunks)}};
}

void print(const std::string& path, const InfoReply& info) {
  const Attributes& a = info.attributes;
  std::printf("%s: %s, inode %llu, %s (%llu bytes), goal %u, at least %u\n", path.c_str(), type_name(a.type),
              static_cast<unsigned long long>(a.inode.value), human_bytes(a.size).c_str(),
              static_cast<unsigned long long>(a.size), a.goal, a.min_copies);
  if (info.chunks_total == 0) return;
  Table table({"CHUNK", "ID", "VERSION", "STATE", "REPLICAS"});
  for (const ChunkInfo& chunk : info.chunks) {
    std::string replicas;
    for (const ReplicaInfo& replica : chunk.replicas) {
      Colour colour = replica.state == "ok" ? Colour::kGood : Colour::kBad;
      replicas += (replicas.empty() ? "" : ", ") + replica.address + " " + coloured(replica.state, colour);
    }
    table.row({std::to_string(chunk.index), to_string(chunk.chunk), std::to_string(chunk.version),
               chunk.state == ChunkState::kSealed ? "sealed" : "open", replicas.empty() ? "none" : replicas});
  }
  std::fputs(table.str().c_str(), stdout);
  if (info.chunks.size() < info.chunks_total)
    std::printf("... %llu chunks in all\n", static_cast<unsigned long long>(info.chunks_total));
}

Task<int> show(RealWorld& world, std::vector<Address> masters, InodeId inode, const InfoArguments& arguments) {
  InfoRequest request;
  request.inode = inode;
  Result<InfoReply> info = co_await ask_masters(world, std::move(masters), request, kAskLimit);
  if (!info) co_return complain("info " + arguments.path, info.error());
  if (arguments.json) {
    std::printf("%s\n", boost::json::serialize(json_of(arguments.path, *info)).c_str());
  } else {
    print(arguments.path, *info);
  }
  co_return kExitOk;
}

int info(const InfoArguments& arguments) {
  struct stat st{};
  if (::lstat(arguments.path.c_str(), &st) != 0) return complain("info " + arguments.path, errno_error(arguments.path));
  Result<OnMount> on = mount_of(arguments.path);
  if (!on) return complain("info " + arguments.path, on.error());
  Result<std::vector<Address>> masters = find_masters(arguments.masters, arguments.path);
  if (!masters) return complain("info " + arguments.path, masters.error());
  return run_on_loop([&](RealWorld& world) { return show(world, *masters, InodeId(st.st_ino), arguments); });
}

}  // namespace

void add_info_command(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<InfoArguments>();
  CLI::App* command = app.add_subcommand("info", "Where a file is: its chunks, their replicas and their state");
  command->add_option("path", arguments->path, "A file or directory on a Cairn mount")->required();
  command->add_option("--master", arguments->masters, "Addresses of the masters, if not the mount's");
  command->add_flag("--json", arguments->json, "For machines");
  command->callback([arguments, &action] { action = [arguments] { return info(*arguments); }; });
}

}  // namespace cairn
