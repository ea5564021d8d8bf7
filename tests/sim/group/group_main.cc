// cairn_group_sim: runs a simulated group of masters under random faults for a number of seeds, one line a seed. Exits
// with 1 if one of them failed.
#include <chrono>
#include <cstdio>
#include <fmt/core.h>
#include <string>

#include <CLI/CLI.hpp>

#include "common/base/log.h"
#include "common/base/version.h"
#include "tests/sim/group/group_sim.h"

namespace cairn {
namespace {

int run(int argc, char** argv) {
  uint64_t seed = 1;
  uint64_t count = 1;
  uint64_t masters = 0;
  bool twice = false;
  bool quiet = false;
  GroupOptions options;
  CLI::App app("Runs a simulated group of masters under random faults, and checks that nothing acknowledged is lost.");
  app.add_option("--seed", seed, "First seed")->capture_default_str();
  app.add_option("--count", count, "Number of seeds")->capture_default_str();
  app.add_option("--masters", masters, "How many; 0: three, and five with each fourth seed")->capture_default_str();
  app.add_option("--faults", options.faults, "How many in a run")->capture_default_str();
  app.add_flag("--story", options.story, "Print each fault, and what the masters log");
  app.add_flag("--twice", twice, "Run each seed twice; both must have the same trace");
  app.add_flag("--quiet", quiet, "Only seeds that fail, and the sum");
  app.set_version_flag("--version", std::string("cairn_group_sim ") + std::string(kVersion));
  CLI11_PARSE(app, argc, argv);
  start_logging("cairn_group_sim", options.story ? LogLevel::kInfo : LogLevel::kOff);

  uint64_t failed = 0;
  uint64_t commands = 0;
  uint64_t reads = 0;
  uint64_t changes = 0;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t this_seed = seed + i;
    options.masters = masters != 0 ? masters : (this_seed % 4 == 0 ? 5 : 3);
    GroupResult result = run_group_seed(this_seed, options);
    if (twice && result.failure.empty()) {
      GroupResult again = run_group_seed(this_seed, options);
      if (again.trace_hash != result.trace_hash || again.events != result.events)
        result.failure = fmt::format("the second run had another trace: {} events, {:016x}, and {} events, {:016x}",
                                     result.events, result.trace_hash, again.events, again.trace_hash);
    }
    bool ok = result.failure.empty();
    commands += result.commands;
    reads += result.reads;
    changes += result.changes;
    if (!ok || !quiet)
      fmt::print("seed {} {} masters={} commands={} reads={} changes={} simulated={:.0f}s events={} trace={:016x}\n",
                 this_seed, ok ? "ok" : "FAILED", options.masters, result.commands, result.reads, result.changes,
                 std::chrono::duration<double>(result.simulated).count(), result.events, result.trace_hash);
    if (!ok) {
      ++failed;
      fmt::print("  {}\n  again: cairn_group_sim --seed {} --masters {} --faults {} --story\n", result.failure,
                 this_seed, options.masters, options.faults);
    }
    std::fflush(stdout);
  }
  fmt::print("{} seeds, {} failed; {} commands and {} reads acknowledged, {} changes of the group\n", count, failed,
             commands, reads, changes);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  return cairn::run(argc, argv);
}
