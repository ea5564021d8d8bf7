#include "tests/support/test_machine.h"

#include "common/base/bytes.h"
#include "common/base/check.h"

namespace cairn {

namespace {
std::string encode_number(uint64_t number) {
  ByteWriter out;
  out.key_u64(number);
  return out.take();
}
std::string command_key(uint64_t position) {
  return "command/" + encode_number(position);
}
uint64_t mix(uint64_t hash, std::string_view bytes) {
  for (char c : bytes)
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ull;
  return hash;
}
}  // namespace

uint64_t TestMachine::number(std::string_view key) const {
  Result<std::string> value = store_->get(key);
  if (!value) return 0;
  return ByteReader(*value).key_u64();
}

Result<LogIndex> TestMachine::open(const std::string& folder) {
  Result<std::unique_ptr<MemoryStore>> store = MemoryStore::open(disk_, folder);
  if (!store) return store.error();
  store_ = std::move(*store);
  count_ = number("count");
  hash_ = number("hash");
  last_ = opened_at = number("last");
  applied.clear();
  decoded_commands = 0;
  return last_;
}

Result<std::vector<std::unique_ptr<CommandReply>>> TestMachine::apply(const EntryContext& entry,
                                                                      std::span<const EntryCommand> commands) {
  CHECK(entry.index > last_);
  if (before_apply) {
    Result<void> allowed = before_apply(entry);
    if (!allowed) return allowed.error();
  }
  WriteBatch batch;
  std::vector<std::unique_ptr<CommandReply>> replies;
  hash_ = mix(hash_, encode_number(entry.index) + encode_number(entry.log_time_ms) + encode_number(entry.seed));
  for (const EntryCommand& command : commands) {
    if (command.decoded != nullptr) {
      CHECK(static_cast<const TestCommand*>(command.decoded)->text == command.bytes);
      ++decoded_commands;
    }
    batch.put(command_key(++count_), command.bytes.substr(0, remembered_bytes_));
    hash_ = mix(hash_, command.bytes);
    replies.push_back(std::make_unique<TestReply>(count_));
  }
  last_ = entry.index;
  batch.put("count", encode_number(count_));
  batch.put("hash", encode_number(hash_));
  batch.put("last", encode_number(last_));
  Result<void> written = store_->write(batch, false);
  if (!written) return written.error();
  applied.push_back(entry);
  if (after_apply) after_apply(entry);
  return replies;
}

Result<void> TestMachine::checkpoint(const std::string& target, const std::function<void(LogIndex)>& freeze) {
  return store_->checkpoint(target, [&] { freeze(number("last")); });
}

std::vector<std::string> TestMachine::commands() const {
  std::vector<std::string> all;
  for (uint64_t position = 1; position <= count_; ++position) {
    Result<std::string> command = store_->get(command_key(position));
    CHECK(command);
    all.push_back(std::move(*command));
  }
  return all;
}

}  // namespace cairn
