// A state machine for tests of the log: it remembers the beginning of every command, in order, in a store on the
// World's disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/kv/memory_store.h"
#include "common/runtime/disk.h"
#include "master/consensus/engine.h"

namespace cairn {

// The proposer's own form of a command.
struct TestCommand : DecodedCommand {
  explicit TestCommand(std::string text_in) : text(std::move(text_in)) {}
  std::string text;
};

// How many commands there were with this one.
struct TestReply : CommandReply {
  explicit TestReply(uint64_t position_in) : position(position_in) {}
  uint64_t position = 0;
};

class TestMachine final : public StateMachine {
 public:
  explicit TestMachine(Disk& disk) : disk_(disk) {}

  Result<LogIndex> open(const std::string& folder) override;
  void close() override { store_.reset(); }
  Result<std::vector<std::unique_ptr<CommandReply>>> apply(const EntryContext& entry,
                                                           std::span<const EntryCommand> commands) override;
  Result<void> checkpoint(const std::string& target, const std::function<void(LogIndex)>& freeze) override;

  static constexpr size_t kRememberedBytes = 40;
  // The beginning of every command, in order.
  std::vector<std::string> commands() const;

  LogIndex opened_at = 0;             // what open() found
  std::vector<EntryContext> applied;  // since open()
  uint64_t decoded_commands = 0;      // that came in their decoded form, since open()
  std::function<Result<void>(const EntryContext&)> before_apply;

 private:
  uint64_t number(std::string_view key) const;

  Disk& disk_;
  std::unique_ptr<MemoryStore> store_;
  uint64_t count_ = 0;
  LogIndex last_ = 0;
};

}  // namespace cairn
