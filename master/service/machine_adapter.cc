#include "master/service/machine_adapter.h"

#include <deque>
#include <utility>

#include "common/base/log.h"
#include "common/base/units.h"
#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"
#include "master/service/command_codec.h"

namespace cairn {

namespace {
// What a crash of the process makes the log be applied again for, at most. Several times what is in flight, so that
// most replies are gone again before they are written; handing it on takes a few milliseconds.
constexpr size_t kHeldBytes = 512 * kKiB;
}  // namespace

MachineAdapter::MachineAdapter(Disk& disk, MachineAdapterOptions options) : disk_(disk), options_(options) {}

MachineAdapter::~MachineAdapter() = default;

Result<LogIndex> MachineAdapter::open(const std::string& folder) {
  close();
  std::unique_ptr<KvStore> store;
  if (options_.memory_store) {
    Result<std::unique_ptr<MemoryStore>> opened = MemoryStore::open(disk_, folder);
    if (!opened) return opened.error();
    store = std::move(*opened);
  } else {
    LevelDbOptions leveldb;
    leveldb.block_cache_bytes = options_.block_cache_bytes;
    leveldb.write_buffer_bytes = 32 * kMiB;
    leveldb.lost_with_machine = true;  // recovery.cc: after a machine's restart a checkpoint is opened, never this
    Result<std::unique_ptr<LevelDbStore>> opened = LevelDbStore::open(disk_, folder, leveldb);
    if (!opened) return opened.error();
    store = std::move(*opened);
  }
  store_ = std::make_unique<WriteBehindStore>(std::move(store), kHeldBytes);
  MachineOptions machine;
  machine.cache_bytes = options_.cache_bytes;
  Result<std::unique_ptr<Machine>> machine_opened = Machine::open(*store_, machine);
  if (!machine_opened) {
    store_.reset();
    return machine_opened.error();
  }
  machine_ = std::move(*machine_opened);
  return machine_->applied_index();
}

void MachineAdapter::close() {
  machine_.reset();
  if (store_ != nullptr) {
    // Only saves the next start some work.
    Result<void> flushed = store_->flush();
    if (!flushed) log_warning("state.not_flushed", "error={}", quoted(flushed.error().message()));
  }
  store_.reset();
}

Result<std::vector<std::unique_ptr<CommandReply>>> MachineAdapter::apply(const EntryContext& context,
                                                                         std::span<const EntryCommand> commands) {
  const LogContext log_context{.index = context.index,
                               .term = context.term,
                               .log_time_ms = context.log_time_ms,
                               .wall_ns = context.wall.ns,
                               .seed = context.seed};
  std::deque<Command> decoded_here;  // stay where they are
  std::vector<const Command*> all;
  all.reserve(commands.size());
  for (const EntryCommand& command : commands) {
    if (command.decoded) {
      all.push_back(&static_cast<const DecodedMachineCommand*>(command.decoded)->command);
      continue;
    }
    Result<Command> decoded = decode_command(command.bytes);
    if (!decoded) return decoded.error().in("log entry " + std::to_string(context.index));
    all.push_back(&decoded_here.emplace_back(std::move(*decoded)));
  }
  Result<std::vector<Reply>> replies = machine_->apply(log_context, all);
  if (!replies) return replies.error();
  std::vector<std::unique_ptr<CommandReply>> out;
  out.reserve(replies->size());
  for (Reply& reply : *replies)
    out.push_back(std::make_unique<MachineReply>(std::move(reply)));
  return out;
}

Result<void> MachineAdapter::checkpoint(const std::string& target, const std::function<void(LogIndex)>& freeze) {
  // The machine's own counters may be an entry ahead of the store; what the store holds back is handed on before.
  return store_->checkpoint(target, [this, &freeze] { freeze(stored_index(*store_)); });
}

}  // namespace cairn
