// What the tests of chunks share: servers enough to choose from, and short forms of the commands of writers and repair.
#pragma once

#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {

class ChunkTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    leader.add_servers({4, 5});
  }
  static std::vector<ServerId> servers(std::initializer_list<uint64_t> ids) {
    std::vector<ServerId> list;
    for (uint64_t id : ids)
      list.push_back(ServerId{id});
    return list;
  }
  static std::vector<ReplicaSpec> specs(std::initializer_list<uint64_t> ids) {
    std::vector<ReplicaSpec> list;
    for (uint64_t id : ids)
      list.push_back({.server = ServerId{id}});
    return list;
  }
  // A sealed chunk on servers 1, 2, 3 at version 1.
  ChunkId sealed(std::string name = "f") {
    const ChunkGrant g = grant();
    EXPECT_TRUE(commit(file(kRootInode, std::move(name)), 0, g));
    EXPECT_TRUE(leader.tell(SealChunk{.chunk = g.chunk, .version = 1, .length = 4096, .allocated_bytes = 4096}));
    return g.chunk;
  }
  BeginRaise raise(ChunkId id, std::initializer_list<uint64_t> survivors,
                   std::initializer_list<uint64_t> joiners = {}) {
    const ChunkRecord c = chunk(id);
    return {.chunk = id,
            .expected_version = c.version,
            .expected_state = c.state,
            .expected_pending = c.pending ? c.pending->version : 0,
            .session = session,
            .survivors = servers(survivors),
            .joiners = servers(joiners)};
  }
  uint64_t begin(const BeginRaise& raise) {
    Result<RaiseBegun> begun = leader.ask<RaiseBegun>(raise);
    EXPECT_TRUE(begun) << begun.error().message();
    return begun ? begun->version : 0;
  }
  std::vector<ChunkId> garbage_of(uint64_t server) {
    std::vector<ChunkId> chunks;
    for (const GarbageEntry& entry : *machine().due_garbage(ServerId{server}, leader.log_time_ms(), 100))
      chunks.push_back(entry.chunk);
    return chunks;
  }
};

}  // namespace cairn
