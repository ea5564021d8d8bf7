#include "master/restore/restore_program.h"

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

#include "common/base/log.h"
#include "common/base/version.h"
#include "common/runtime/real_world.h"
#include "master/restore/import.h"

namespace cairn {
namespace {

struct Arguments {
  std::string dump, folder, address;
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

}  // namespace

bool is_restore_command(int argc, char** argv) {
  return argc > 1 && std::string_view(argv[1]) == "import";
}

int run_restore_program(int argc, char** argv) {
  CLI::App app("cairn-master: a master's folder from what is left of another", "cairn-master");
  app.require_subcommand(1);
  Arguments arguments;
  CLI::App* from_dump = app.add_subcommand("import", "Make a new master's folder of an export");
  from_dump->add_option("file", arguments.dump, "Made by cairn metadata export")->required();
  add_place(*from_dump, arguments);
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
  start_logging("cairn-master", LogLevel::kWarning, {});
  std::unique_ptr<RealWorld> world = RealWorld::make({});
  RealWorld& real = *world;
  return real.run(import(real, arguments));
}

}  // namespace cairn
