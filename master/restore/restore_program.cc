#include "master/restore/restore_program.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <fmt/chrono.h>

#include "common/base/log.h"
#include "common/base/version.h"
#include "common/runtime/real_world.h"
#include "common/tls/tls_settings.h"
#include "master/restore/import.h"
#include "master/restore/rescue.h"

namespace cairn {
namespace {

struct Arguments {
  std::string dump, folder, address;
  std::vector<std::string> servers;
  bool json = false;
};

int complain(const Error& error) {
  std::fprintf(stderr, "cairn-master: %s\n", error.message().c_str());
  return 1;
}

void add_place(CLI::App& app, Arguments& arguments) {
  app.add_option("--folder", arguments.folder, "Of the new master: absent, or empty")->required();
  app.add_option("--address", arguments.address, "Where the new master will be reached: HOST:PORT")->required();
}

Task<int> import(RealWorld& world, Arguments arguments) {
  ImportOptions options;
  options.dump = arguments.dump;
  options.folder = arguments.folder;
  options.address = arguments.address;
  options.master = MasterId(world.random().next_id());
  options.wall_ns = world.clock().wall().ns;
  options.boot_id = world.boot_id();
  std::unique_ptr<BlockingPool> pool = world.make_pool("import", 1);
  Result<ImportResult> imported =
      co_await pool->run([&disk = world.disk(), options] { return import_dump(disk, options); });
  if (!imported) co_return complain(imported.error());
  std::printf("%s holds a new master of cluster %s, with %llu files and directories\n", arguments.folder.c_str(),
              to_string(imported->dump.header.cluster).c_str(), static_cast<unsigned long long>(imported->inodes));
  std::printf("start cairn-master on it, without --init; then see `cairn status` and `cairn metadata check`\n");
  co_return 0;
}

std::string when(int64_t wall_ns) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(wall_ns / 1'000'000'000)));
}

boost::json::array json_of(const std::vector<FoundChunk>& chunks) {
  boost::json::array out;
  for (const FoundChunk& c : chunks)
    out.push_back({{"chunk", to_string(c.chunk)}, {"inode", c.inode.value}, {"index", c.index}, {"length", c.length}});
  return out;
}

void print_json(const RescueResult& rescued) {
  const DumpHeader& header = rescued.imported.dump.header;
  boost::json::object out{{"cluster", to_string(header.cluster)},
                          {"dump_made", when(header.wall_ns)},
                          {"dump_index", header.applied_index},
                          {"dumps_passed_over", rescued.dumps_passed_over},
                          {"servers", rescued.servers},
                          {"chunks_on_servers", rescued.chunks},
                          {"inodes", rescued.imported.inodes},
                          {"attached", json_of(rescued.attached)},
                          {"lost_and_found", json_of(rescued.unnamed)},
                          {"removed_before_the_dump", rescued.removed_before}};
  std::printf("%s\n", boost::json::serialize(out).c_str());
}

void print_text(const RescueResult& rescued, const std::string& folder) {
  const DumpHeader& header = rescued.imported.dump.header;
  auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf("%s holds a new master of cluster %s: %llu files and directories, as of %s\n", folder.c_str(),
              to_string(header.cluster).c_str(), number(rescued.imported.inodes), when(header.wall_ns).c_str());
  if (rescued.dumps_passed_over > 0)
    std::printf("%u newer dumps were not whole\n", rescued.dumps_passed_over);
  std::printf("from %llu chunkservers with %llu replicas; newer than the dump:\n", number(rescued.servers),
              number(rescued.chunks));
  std::printf("  %llu chunks were added to files that it knows (their sizes are at least what the chunks need)\n",
              number(rescued.attached.size()));
  for (const FoundChunk& c : rescued.attached)
    std::printf("    inode %llu index %u: %u bytes\n", number(c.inode.value), c.index, c.length);
  std::printf("  %llu chunks are of files whose names, owners and modes are lost: see /lost+found\n",
              number(rescued.unnamed.size()));
  for (const FoundChunk& c : rescued.unnamed)
    std::printf("    inode %llu index %u: %u bytes\n", number(c.inode.value), c.index, c.length);
  std::printf(
      "what could not be known, since then: names, links, attributes and directories that were made or changed; what\n"
      "was removed (it is there again) or cut; the sizes of files that grew within a chunk; files without data\n");
  std::printf("start cairn-master on it, without --init; then see `cairn status` and `cairn metadata check`\n");
}

Task<int> rescue_into(RealWorld& world, Arguments arguments, std::vector<Address> servers) {
  RescueOptions options;
  options.folder = arguments.folder;
  options.address = arguments.address;
  options.servers = std::move(servers);
  Result<RescueResult> rescued = co_await rescue(world, std::move(options));
  if (!rescued) co_return complain(rescued.error());
  if (arguments.json) {
    print_json(*rescued);
  } else {
    print_text(*rescued, arguments.folder);
  }
  co_return 0;
}

}  // namespace

bool is_restore_command(int argc, char** argv) {
  return argc > 1 && (std::string_view(argv[1]) == "import" || std::string_view(argv[1]) == "rescue");
}

int run_restore_program(int argc, char** argv) {
  CLI::App app("cairn-master: a master's folder from what is left of another", "cairn-master");
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* from_dump = app.add_subcommand("import", "Make a new master's folder of an export");
  from_dump->add_option("file", arguments.dump, "Made by cairn metadata export")->required();
  add_place(*from_dump, arguments);
  CLI::App* from_servers = app.add_subcommand("rescue", "Make a new master's folder of what chunkservers keep");
  from_servers->add_option("--server", arguments.servers, "Address of a chunkserver; name all that there are")->required();
  from_servers->add_flag("--json", arguments.json, "For machines");
  add_place(*from_servers, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Result<Address> address = parse_address(arguments.address);
  if (!address) {
    std::fprintf(stderr, "cairn-master: %s\n", address.error().message().c_str());
    return 2;
  }
  std::vector<Address> servers;
  for (const std::string& text : arguments.servers) {
    Result<Address> server = parse_address(text);
    if (!server) {
      std::fprintf(stderr, "cairn-master: %s\n", server.error().message().c_str());
      return 2;
    }
    servers.push_back(std::move(*server));
  }
  start_logging("cairn-master", LogLevel::kWarning, {});
  std::unique_ptr<RealWorld> world = RealWorld::make({});
  RealWorld& real = *world;
  // As the master that will be there: its certificate is beside its folder, or the machine's.
  TlsSettings tls;
  const char* mode = std::getenv("CAIRN_TLS");
  if (mode != nullptr && mode[0] != '\0') tls.mode = mode;
  Result<std::shared_ptr<Credentials>> credentials =
      use_tls(real, tls, PeerRole::kMaster, {tls_folder_beside(arguments.folder)});
  if (!credentials) return complain(credentials.error());
  if (from_servers->parsed()) return real.run(rescue_into(real, arguments, std::move(servers)));
  return real.run(import(real, arguments));
}

}  // namespace cairn
