// MachineAdapter: the state machine and its LevelDB as the log sees them. Also what travels beside a proposal (the
// decoded command) and back (the reply).
//
// Threads as engine.h says of StateMachine: open, apply and close on one thread, checkpoint on another. machine() may
// be read from any thread while the log is open.
#pragma once

#include <memory>
#include <string>

#include "common/kv/write_behind_store.h"
#include "common/runtime/world.h"
#include "master/consensus/engine.h"
#include "master/namespace/machine.h"

namespace cairn {

struct DecodedMachineCommand : DecodedCommand {
  explicit DecodedMachineCommand(Command command_in) : command(std::move(command_in)) {}
  Command command;
};
struct MachineReply : CommandReply {
  explicit MachineReply(Reply reply_in) : reply(std::move(reply_in)) {}
  Reply reply;
};

struct MachineAdapterOptions {
  bool memory_store = false;  // in memory with a journal instead of LevelDB: the simulator's
  size_t cache_bytes = 256 << 20;
  size_t block_cache_bytes = 64 << 20;
};

class MachineAdapter final : public StateMachine {
 public:
  MachineAdapter(Disk& disk, MachineAdapterOptions options);
  ~MachineAdapter() override;

  Result<LogIndex> open(const std::string& folder) override;
  void close() override;
  Result<std::vector<std::unique_ptr<CommandReply>>> apply(const EntryContext& entry,
                                                           std::span<const EntryCommand> commands) override;
  Result<void> checkpoint(const std::string& target, const std::function<void(LogIndex)>& freeze) override;

  // Only while the log is open.
  Machine& machine() { return *machine_; }

 private:
  Disk& disk_;
  MachineAdapterOptions options_;
  std::unique_ptr<WriteBehindStore> store_;
  std::unique_ptr<Machine> machine_;
};

}  // namespace cairn
