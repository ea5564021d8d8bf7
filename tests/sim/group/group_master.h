// A master that is nothing but a log and a TestMachine, with the real transport between masters, as the program
// of a simulated node. It proposes and reads all the time while it leads.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/runtime/sim_world.h"
#include "common/runtime/task_group.h"
#include "master/consensus/engine.h"
#include "master/service/raft_peers.h"
#include "tests/sim/group/history.h"
#include "tests/support/test_machine.h"

namespace cairn {

struct GroupMasterSettings {
  ReplicatedLogOptions log;
  std::string address;
  // Of messages between masters, in a thousand: lost, sent twice, held up (so that others overtake them).
  uint32_t lost = 0;
  uint32_t twice = 0;
  uint32_t late = 0;
  bool working = true;  // proposes and reads
  // Sees each message to another master; false: it is lost.
  std::function<bool(std::string_view message)> on_send;
};

class GroupMaster {
 public:
  GroupMaster(World& world, Simulator& simulator, GroupHistory& history, GroupMasterSettings settings,
              const bool& working);
  ~GroupMaster();

  ReplicatedLog* log() { return log_.get(); }
  TestMachine& machine() { return machine_; }
  const std::optional<Error>& error() const { return error_; }

  // Each runs on its own; `done` is told how it ended.
  void add(MasterId master, std::string address, std::function<void(Result<void>)> done);
  void remove(MasterId master, std::function<void(Result<void>)> done);
  void transfer(MasterId to);
  void checkpoint();
  // Closes the log and what it talks through.
  Task<void> close();

 private:
  class LossyPeers;
  Task<void> open();
  Task<void> open_again();
  Task<void> work();
  Task<void> propose_one();
  Task<void> read_one();
  Task<void> change(Task<Result<void>> task, std::function<void(Result<void>)> done);
  Task<void> make_checkpoint();
  Task<void> send_later(MasterId to, std::string address, std::string message);

  World& world_;
  Simulator& simulator_;
  GroupHistory& history_;
  GroupMasterSettings settings_;
  const bool& working_;
  TestMachine machine_;
  std::unique_ptr<LossyPeers> lossy_;
  std::unique_ptr<RaftPeers> peers_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<ReplicatedLog> log_;
  std::optional<Error> error_;
  TaskGroup tasks_;
};

}  // namespace cairn
