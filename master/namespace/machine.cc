#include "master/namespace/machine.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "common/base/check.h"
#include "master/namespace/machine_impl.h"
#include "master/namespace/ops/ops.h"

namespace cairn {
namespace {

// A mutation takes back its own operation and keeps the rest (its stored reply); every other command that fails has
// changed nothing.
Reply run(Transaction& tx, const Command& command) {
  return std::visit(
      [&tx](const auto& c) {
        tx.savepoint();
        Reply reply = apply_command(tx, c);
        if constexpr (!std::is_same_v<std::decay_t<decltype(c)>, SessionMutation>) {
          if (!reply) tx.rollback();
        }
        return reply;
      },
      command);
}

}  // namespace

uint64_t stored_index(const KvStore& store) {
  Result<std::string> bytes = store.get(keys::counters());
  CounterRecord counters;
  if (!bytes || !decode(*bytes, counters)) return 0;
  return counters.applied_index;
}

Result<std::unique_ptr<Machine>> Machine::open(KvStore& store, MachineOptions options) {
  auto impl = std::make_unique<Impl>(store, options);
  if (Result<void> loaded = impl->load(); !loaded) return loaded.error().in("opening the metadata store");
  return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

Machine::Machine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Machine::~Machine() = default;

Result<std::vector<Reply>> Machine::apply(const LogContext& context, std::span<const Command* const> commands) {
  return impl_->apply(context, commands);
}

Result<std::vector<Reply>> Machine::apply(const LogEntry& entry) {
  std::vector<const Command*> commands;
  commands.reserve(entry.commands.size());
  for (const Command& command : entry.commands)
    commands.push_back(&command);
  return apply(entry.context, commands);
}

Result<void> Machine::Impl::load() {
  for (keys::Kind kind :
       {keys::Kind::kCluster, keys::Kind::kCounters, keys::Kind::kSession, keys::Kind::kServer, keys::Kind::kLocks}) {
    Result<void> decoded;
    const std::string prefix = keys::prefix(kind);
    Result<void> read = scan_store(store, prefix, prefix, [&](std::string_view key, std::string_view value) {
      decoded = update_tables(key, std::string(value));
      return decoded.has_value();
    });
    if (!read) return read;
    if (!decoded) return decoded;
  }
  return {};
}

// Sessions, servers, locks, the cluster and the counters are also kept decoded.
Result<void> Machine::Impl::update_tables(std::string_view key, const std::optional<std::string>& value) {
  switch (static_cast<keys::Kind>(key.front())) {
    case keys::Kind::kSession:
      if (!value) {
        tables.sessions.erase(SessionId{keys::first_id(key)});
        return {};
      }
      return decode(*value, tables.sessions[SessionId{keys::first_id(key)}]);
    case keys::Kind::kServer:
      if (!value) {
        tables.servers.erase(ServerId{keys::first_id(key)});
        return {};
      }
      return decode(*value, tables.servers[ServerId{keys::first_id(key)}]);
    case keys::Kind::kLocks:
      if (!value) {
        tables.locks.erase(InodeId{keys::first_id(key)});
        return {};
      }
      return decode(*value, tables.locks[InodeId{keys::first_id(key)}]);
    case keys::Kind::kCluster:
      CHECK(value);
      return decode(*value, tables.cluster.emplace());
    case keys::Kind::kCounters:
      CHECK(value);
      return decode(*value, tables.counters);
    default:
      return {};
  }
}

Result<std::vector<Reply>> Machine::Impl::apply(const LogContext& context, std::span<const Command* const> commands) {
  CHECK(context.index > tables.counters.applied_index);
  Transaction tx(store, cache, context, tables);
  CounterRecord& counters = tx.counters();
  counters.applied_index = context.index;
  counters.log_time_ms = std::max(counters.log_time_ms, context.log_time_ms);
  if (context.term != counters.applied_term) {
    counters.applied_term = context.term;
    counters.term_began_ms = counters.log_time_ms;
  }
  std::vector<Reply> replies;
  replies.reserve(commands.size());
  for (const Command* command : commands) {
    replies.push_back(run(tx, *command));
    if (tx.failed()) return tx.failure().in("applying entry " + std::to_string(context.index));
  }
  tx.finish();

  WriteBatch batch;
  std::lock_guard store_guard(store_lock);
  publish(tx, batch);
  if (Result<void> written = store.write(batch, false); !written) return written.error();
  cache.unpin_all();
  return replies;
}

void Machine::Impl::publish(Transaction& tx, WriteBatch& batch) {
  batch.reserve(tx.changes().size());
  for (const auto& [key, value] : tx.changes()) {
    if (!value) {
      batch.erase(key);
    } else if (static_cast<keys::Kind>(key.front()) == keys::Kind::kReply) {
      batch.put_new(key, *value);  // a sequence number is used once
    } else {
      batch.put(key, *value);
    }
  }
  std::lock_guard memory_guard(memory_lock);
  for (const auto& [key, value] : tx.changes()) {
    // What was encoded just now can be decoded.
    CHECK(update_tables(key, value).has_value());
    if (keys::is_looked_up(key)) cache.put_pinned(key, value);
  }
}

Result<std::optional<std::string>> StateReader::load(std::string_view key) const {
  const bool is_cached = keys::is_looked_up(key);
  if (is_cached) {
    if (std::optional<RecordCache::Value> cached = cache_.find(key)) return std::move(*cached);
  }
  Result<std::string> stored = mode_ == ReadMode::kMemoryOnly ? store_.get_cached(key) : store_.get(key);
  if (stored.failed_with(ErrorCode::kAgain)) return ErrorCode::kNotCached;
  if (!stored && !stored.failed_with(ErrorCode::kNotFound)) return stored.error();
  std::optional<std::string> value;
  if (stored) value = std::move(*stored);
  if (is_cached) cache_.insert(key, value);
  return value;
}

Result<void> StateReader::load_range(std::string_view prefix, std::string_view from, const Visit& visit) const {
  if (mode_ == ReadMode::kMemoryOnly) return ErrorCode::kNotCached;
  return scan_store(store_, prefix, from, visit);
}

bool replica_verified(const ChunkRecord& chunk, const ReplicaRecord& replica, const ServerRecord& server) {
  if (replica.state != ReplicaState::kCurrent) return false;
  return chunk.state == ChunkState::kSealed || replica.boots == server.boots;
}

}  // namespace cairn
