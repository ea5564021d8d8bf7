// A Machine on a store, and what a leader does to it: entries with rising indexes and a log time that the test moves.
//
// Every mutation is sent twice: the second must give the same reply and write nothing but the counters.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"
#include "common/runtime/memory_disk.h"
#include "master/namespace/keys.h"
#include "master/namespace/machine.h"
#include "master/namespace/record_cache.h"

namespace cairn {

// Passes everything on, and remembers which keys the last batch changed and how often the store was read.
class SpyStore final : public KvStore {
 public:
  explicit SpyStore(std::unique_ptr<KvStore> store) : store_(std::move(store)) {}
  Result<std::string> get(std::string_view key) const override {
    ++gets;
    return store_->get(key);
  }
  Result<std::string> get_cached(std::string_view key) const override {
    if (!cached) return ErrorCode::kAgain;
    return store_->get(key);
  }
  std::unique_ptr<KvIterator> iterate() const override { return store_->iterate(); }
  Result<void> write(const WriteBatch& batch, bool sync) override {
    changed.clear();
    for (const WriteBatch::Change& change : batch.changes())
      changed.emplace_back(change.key);
    if (fail_writes) return ErrorCode::kIo;
    return store_->write(batch, sync);
  }
  Result<void> checkpoint(const std::string& target, const std::function<void()>& freeze) override {
    return store_->checkpoint(target, freeze);
  }
  uint64_t disk_bytes() const override { return store_->disk_bytes(); }

  std::vector<std::string> changed;
  mutable uint64_t gets = 0;
  bool fail_writes = false;
  bool cached = false;  // the store needs no disk to answer

 private:
  std::unique_ptr<KvStore> store_;
};

inline constexpr uint32_t kSessionMs = 10'000;
inline constexpr uint32_t kGraceMs = 60'000;

class Leader {
 public:
  explicit Leader(std::unique_ptr<KvStore> store = MemoryStore::in_memory(), MachineOptions options = {})
      : store_(std::move(store)), options_(options) {
    open();
  }

  // The process starts again: nothing is kept but the store.
  void restart(size_t cache_bytes = 256 << 20) {
    machine_.reset();
    options_.cache_bytes = cache_bytes;
    open();
  }

  Machine& machine() { return *machine_; }
  SpyStore& store() { return store_; }
  uint64_t log_time_ms() const { return log_time_ms_; }
  void pass(uint64_t ms) { log_time_ms_ += ms; }
  void next_term() { ++term_; }

  std::vector<Reply> entry(std::vector<Command> commands) {
    LogEntry entry{.context = context(), .commands = std::move(commands)};
    log_.push_back(entry);
    Result<std::vector<Reply>> replies = machine_->apply(entry);
    EXPECT_TRUE(replies) << replies.error().message();
    return replies ? std::move(*replies) : std::vector<Reply>();
  }
  Reply command(Command command) { return entry({std::move(command)}).at(0); }

  // The reply's body, which must be a T.
  template <class T>
  Result<T> ask(Command c) {
    Reply reply = command(std::move(c));
    if (!reply) return reply.error();
    return std::get<T>(std::move(*reply));
  }
  Result<void> tell(Command c) {
    Reply reply = command(std::move(c));
    if (!reply) return reply.error();
    return {};
  }

  void make_cluster(MakeCluster make = {}) {
    make.cluster = ClusterId{7};
    make.session_ms = kSessionMs;
    make.delete_grace_ms = kGraceMs;
    ASSERT_TRUE(tell(make));
  }
  SessionId open_session() { return ask<OpenSessionReply>(OpenSession{.host = "h", .mountpoint = "/m"})->session; }
  void add_servers(std::initializer_list<uint64_t> ids) {
    for (uint64_t id : ids)
      ASSERT_TRUE(tell(registration(id)));
  }
  static RegisterServer registration(uint64_t id, const std::string& boot = "boot", uint64_t incarnation = 1) {
    return {.server = ServerId{id},
            .address = "host" + std::to_string(id) + ":1",
            .domain = "d" + std::to_string(id),
            .boot_id = boot,
            .incarnation = incarnation};
  }

  SessionMutation mutation(SessionId session, MetaOp op) {
    uint64_t& sequence = sequences_[session];
    // As a client that has nothing else in flight says it.
    const uint64_t number = ++sequence;
    return {.session = session,
            .sequence = number,
            .first_unacknowledged = number,
            .now = now_ns_ += 1000,
            .op = std::move(op)};
  }
  Result<MutationReply> mutate(SessionId session, MetaOp op) {
    const SessionMutation m = mutation(session, std::move(op));
    Result<MutationReply> reply = ask<MutationReply>(m);
    if (reply.failed_with(ErrorCode::kSessionEnded)) return reply;
    Result<MutationReply> again = ask<MutationReply>(m);
    if (again) EXPECT_TRUE(std::exchange(again->repeated, false)) << "a repeat is not marked";
    EXPECT_TRUE(same(reply, again)) << "a repeat answered something else";
    EXPECT_EQ(store_.changed, std::vector<std::string>{keys::counters()}) << "a repeat changed something";
    return reply;
  }
  static bool same(const Result<MutationReply>& a, const Result<MutationReply>& b) {
    if (a.has_value() != b.has_value()) return false;
    if (a) return *a == *b;
    return a.error().code == b.error().code && a.error().context == b.error().context;
  }

  void tick(uint64_t ms = 1000) {
    pass(ms);
    EXPECT_TRUE(command(Tick{}));
  }
  // Ticks until nothing is left to remove.
  void settle() {
    for (int i = 0; i < 10'000 && machine_->work_pending(); ++i)
      tick(0);
    EXPECT_FALSE(machine_->work_pending());
  }

  uint64_t hash() const { return *machine_->state_hash(); }
  const std::vector<LogEntry>& log() const { return log_; }

 private:
  LogContext context() {
    return {
        .index = ++index_, .term = term_, .log_time_ms = log_time_ms_, .wall_ns = now_ns_ += 1000, .seed = index_ * 77};
  }
  void open() {
    Result<std::unique_ptr<Machine>> opened = Machine::open(store_, options_);
    ASSERT_TRUE(opened) << opened.error().message();
    machine_ = std::move(*opened);
  }

  SpyStore store_;
  MachineOptions options_;
  std::unique_ptr<Machine> machine_;
  std::vector<LogEntry> log_;
  uint64_t index_ = 0, term_ = 1, log_time_ms_ = 1000;
  FileTime now_ns_ = 1'700'000'000'000'000'000;
  std::map<SessionId, uint64_t> sequences_;
};

// A cluster with three servers and one session, and the operations by short names.
class MachineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    leader.make_cluster();
    leader.add_servers({1, 2, 3});
    session = leader.open_session();
  }
  Machine& machine() { return leader.machine(); }

  Result<MutationReply> mutate(MetaOp op) { return leader.mutate(session, std::move(op)); }
  Result<MutationReply> create(InodeId parent, std::string name, FileType type = FileType::kRegular,
                               uint32_t mode = 0644) {
    return mutate(
        CreateOp{.parent = parent, .name = std::move(name), .type = type, .mode = mode, .uid = 10, .gid = 20});
  }
  InodeId file(InodeId parent, std::string name) { return create(parent, std::move(name))->attributes.inode; }
  InodeId directory(InodeId parent, std::string name) {
    return create(parent, std::move(name), FileType::kDirectory, 0755)->attributes.inode;
  }
  Result<MutationReply> link(InodeId inode, InodeId parent, std::string name) {
    return mutate(LinkOp{inode, parent, std::move(name)});
  }
  Result<MutationReply> unlink(InodeId parent, std::string name, std::vector<SessionId> holders = {}) {
    return mutate(UnlinkOp{parent, std::move(name), std::move(holders)});
  }
  Result<MutationReply> rmdir(InodeId parent, std::string name) { return mutate(RmdirOp{parent, std::move(name)}); }
  Result<MutationReply> rename(InodeId parent, std::string name, InodeId new_parent, std::string new_name) {
    return mutate(
        RenameOp{.parent = parent, .name = std::move(name), .new_parent = new_parent, .new_name = std::move(new_name)});
  }
  Result<MutationReply> resize(InodeId inode, uint64_t size) {
    return mutate(SetAttributesOp{.inode = inode, .size = size});
  }

  ChunkGrant grant(std::vector<uint64_t> servers = {1, 2, 3}, uint8_t goal = 0) {
    std::vector<ServerId> chain;
    for (uint64_t id : servers)
      chain.push_back(ServerId{id});
    Result<MutationReply> reply = mutate(GrantChunksOp{.goal = goal, .placements = {chain}});
    EXPECT_TRUE(reply) << reply.error().message();
    return reply->grants.at(0);
  }
  Result<MutationReply> commit(InodeId inode, uint32_t index, const ChunkGrant& grant, uint32_t allocated = 4096,
                               bool trimmed = false) {
    return mutate(CommitOp{.inode = inode,
                           .size_at_least = index * kChunkSizeBytes + allocated,
                           .chunks = {{.index = index,
                                       .chunk = grant.chunk,
                                       .version = grant.version,
                                       .allocated_bytes = allocated,
                                       .trimmed = trimmed}}});
  }
  // A file with chunks at indexes 0..count-1.
  InodeId file_with_chunks(std::string name, uint32_t count) {
    const InodeId inode = file(kRootInode, std::move(name));
    for (uint32_t index = 0; index < count; ++index)
      EXPECT_TRUE(commit(inode, index, grant()));
    return inode;
  }
  ChunkRecord chunk(ChunkId id) { return *machine().chunk(id, ReadMode::kMayBlock); }

  Attributes attributes(InodeId inode) { return machine().get_attributes(inode, ReadMode::kMayBlock).value(); }
  InodeId find(InodeId parent, std::string_view name) {
    return machine().lookup(parent, name, ReadMode::kMayBlock)->attributes.inode;
  }
  std::vector<std::string> names(InodeId directory) {
    std::vector<std::string> found;
    for (const DirectoryEntry& entry :
         machine().read_directory(directory, 0, 4000, false, ReadMode::kMayBlock)->entries) {
      found.push_back(entry.name);
    }
    return found;
  }

  Leader leader;
  SessionId session;
};

// EXPECT_ERROR(result, ErrorCode::kExists)
#define EXPECT_ERROR(expression, expected)                           \
  do {                                                               \
    const auto& result_ = (expression);                              \
    ASSERT_FALSE(result_.has_value());                               \
    EXPECT_EQ(to_string(result_.error().code), to_string(expected)); \
  } while (false)

}  // namespace cairn
