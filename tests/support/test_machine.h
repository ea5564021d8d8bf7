// A state machine for tests of the log: it remembers every command (or its beginning), in order, and a hash over all
// that was applied, in a store on the World's disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
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
  static constexpr size_t kRememberedBytes = 40;
  static constexpr size_t kWhole = SIZE_MAX;
  explicit TestMachine(Disk& disk, size_t remembered_bytes = kRememberedBytes)
      : disk_(disk), remembered_bytes_(remembered_bytes) {}

  Result<LogIndex> open(const std::string& folder) override;
  void close() override { store_.reset(); }
  Result<std::vector<std::unique_ptr<CommandReply>>> apply(const EntryContext& entry,
                                                           std::span<const EntryCommand> commands) override;
  Result<void> checkpoint(const std::string& target, const std::function<void(LogIndex)>& freeze) override;

  // What it remembers of every command, in order.
  std::vector<std::string> commands() const;
  uint64_t count() const { return count_; }  // of commands
  uint64_t hash() const { return hash_; }    // equal for equal entries in the same order

  LogIndex opened_at = 0;             // what open() found
  std::vector<EntryContext> applied;  // since open()
  uint64_t decoded_commands = 0;      // that came in their decoded form, since open()
  // Each on the thread of apply().
  std::function<Result<void>(const EntryContext&)> before_apply;
  std::function<void(const EntryContext&)> after_apply;

 private:
  uint64_t number(std::string_view key) const;

  Disk& disk_;
  const size_t remembered_bytes_;
  std::unique_ptr<MemoryStore> store_;
  uint64_t count_ = 0;
  uint64_t hash_ = 0;
  LogIndex last_ = 0;
};

}  // namespace cairn
