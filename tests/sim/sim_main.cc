// cairn_sim: runs the random workload for a number of seeds, one line a seed. Exits with 1 if one of them failed.
#include <chrono>
#include <cstdio>
#include <fmt/core.h>
#include <string>

#include <CLI/CLI.hpp>

#include "common/base/log.h"
#include "common/base/version.h"
#include "tests/sim/random_workload.h"

namespace cairn {
namespace {

struct Arguments {
  uint64_t seed = 1;
  uint64_t count = 1;
  size_t masters = 0;
  uint32_t steps = WorkloadOptions{}.operations;
  std::string faults = "default";
  bool story = false;
  bool events = false;
  bool twice = false;
  bool quiet = false;
  bool kernel = false;
};

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

bool run_one(uint64_t seed, const Arguments& arguments, const WorkloadOptions& options) {
  auto run_workload = arguments.kernel ? run_kernel_seed : run_seed;
  RunResult result = run_workload(seed, options);
  if (arguments.twice && result.failure.empty()) {
    RunResult again = run_workload(seed, options);
    if (again.trace_hash != result.trace_hash || again.events != result.events)
      result.failure = fmt::format("the second run had another trace: {} events, {:016x}, and {} events, {:016x}",
                                   result.events, result.trace_hash, again.events, again.trace_hash);
  }
  bool ok = result.failure.empty();
  if (!ok || !arguments.quiet) {
    fmt::print(
        "seed {} {} masters={} operations={} faults={} errors={} longest={:.2f}s simulated={:.0f}s events={} "
        "trace={:016x}\n",
        seed, ok ? "ok" : "FAILED", result.masters, result.operations, result.faults, result.errors,
        seconds(result.longest), seconds(result.simulated), result.events, result.trace_hash);
  }
  if (!ok) {
    fmt::print("  {}\n  again: cairn_sim {}--seed {} --masters {} --steps {} --faults {} --story\n", result.failure,
               arguments.kernel ? "--kernel " : "", seed, result.masters, options.operations,
               fault_names(options.faults));
  }
  std::fflush(stdout);
  return ok;
}

int run(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Runs random file operations on a simulated cluster with random faults, and checks what is read.");
  app.add_option("--seed", arguments.seed, "First seed")->capture_default_str();
  app.add_option("--count", arguments.count, "Number of seeds")->capture_default_str();
  app.add_option("--masters", arguments.masters, "How many; 0: one, three or five, as the seed has it")
      ->check(CLI::IsMember({0, 1, 3, 5}))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps,
                 "Operations of each worker (two workers a mount; with several masters they do twice as many)")
      ->capture_default_str();
  app.add_option("--faults", arguments.faults,
                 "Kinds of faults, separated by commas: " + fault_names(kAllFaults) +
                     "; none; all; default: " + fault_names(default_faults()))
      ->capture_default_str();
  app.add_flag("--kernel", arguments.kernel,
               "Instead: applications on mounts with a model of the kernel, and what they may see");
  app.add_flag("--story", arguments.story, "Print each operation and fault, and what the programs log");
  app.add_flag("--trace", arguments.events, "Print each event of the simulator");
  app.add_flag("--twice", arguments.twice, "Run each seed twice; both must have the same trace");
  app.add_flag("--quiet", arguments.quiet, "Only seeds that fail, and the sum");
  app.set_version_flag("--version", std::string("cairn_sim ") + std::string(kVersion));
  CLI11_PARSE(app, argc, argv);

  WorkloadOptions options;
  options.operations = arguments.steps;
  if (!parse_faults(arguments.faults, options.faults)) {
    fmt::print(stderr, "cairn_sim: --faults {}: known are {}, none, all, default\n", arguments.faults,
               fault_names(kAllFaults));
    return 2;
  }
  options.events = arguments.events;
  options.masters = arguments.masters;
  if (arguments.story || arguments.events) {
    start_logging("cairn_sim", LogLevel::kInfo);
    options.story = [](std::string_view line) { fmt::print(stderr, "{}\n", line); };
  } else {
    set_log_level(LogLevel::kOff);
  }
  uint64_t failed = 0;
  for (uint64_t i = 0; i < arguments.count; ++i)
    failed += run_one(arguments.seed + i, arguments, options) ? 0 : 1;
  fmt::print("{} seeds, {} failed\n", arguments.count, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  return cairn::run(argc, argv);
}
