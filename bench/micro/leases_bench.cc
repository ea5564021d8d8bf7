// What leases cost the master: bytes a shared lease for 10,000 sessions with 1,000 each (each its own inodes; all the
// same; ten sessions an inode), and the time of a grant, of a change that nobody has to be asked for, and of one that
// 1,000 sessions are asked for and answer.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include "common/base/check.h"
#include "master/leases/lease_table.h"

namespace cairn {
namespace {

constexpr uint64_t kEach = 1000;

double allocated_bytes() {
  struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks) + static_cast<double>(info.hblkhd);
}

// state.range(0): sessions; state.range(1): how many of them share one inode.
void hold(benchmark::State& state) {
  auto sessions = static_cast<uint64_t>(state.range(0));
  auto sharing = static_cast<uint64_t>(state.range(1));
  for (auto _ : state) {
    double before = allocated_bytes();
    LeaseTable table({.leases_max = 100'000'000});
    table.begin_term(1);
    for (uint64_t session = 0; session < sessions; ++session) {
      for (uint64_t i = 0; i < kEach; ++i) {
        InodeId inode(1 + session / sharing * kEach + i);
        Lease lease = table.share(SessionId(1 + session), inode, table.mark(), true);
        CHECK(lease.duration_ms != 0);
      }
    }
    double leases = static_cast<double>(table.shared_count());
    state.counters["bytes_per_lease"] = (allocated_bytes() - before) / leases;
    state.counters["leases"] = leases;
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(sessions * kEach));
}
BENCHMARK(hold)
    ->Args({10'000, 1})
    ->Args({10'000, 10})
    ->Args({10'000, 10'000})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

void change_alone(benchmark::State& state) {
  LeaseTable table;
  table.begin_term(1);
  for (auto _ : state) {
    ChangeId change = table.begin_change(
        SessionId(1), {{.inode = InodeId(1), .kind = RecallKind::kName, .name = "a-file-of-usual-name.txt"}});
    CHECK(table.recalls_for(change).empty());
    benchmark::DoNotOptimize(table.share_changed(change, InodeId(1), true));
    table.end_change(change);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(change_alone);

void change_of_what_a_thousand_hold(benchmark::State& state) {
  LeaseTable table;
  table.begin_term(1);
  for (uint64_t session = 1; session <= kEach; ++session)
    table.share(SessionId(session), InodeId(1), table.mark(), true);
  for (auto _ : state) {
    ChangeId change =
        table.begin_change(SessionId(1), {{.inode = InodeId(1), .kind = RecallKind::kAttributes, .name = {}}});
    for (const LeaseTable::Asked& asked : table.recalls_for(change))
      CHECK(table.answered(asked.session, {.sequence = asked.recall.sequence}).known);
    CHECK(table.pending(change) == 0);
    table.end_change(change);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kEach - 1));
}
BENCHMARK(change_of_what_a_thousand_hold);

}  // namespace
}  // namespace cairn
