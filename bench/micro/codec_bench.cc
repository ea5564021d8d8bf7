// What it costs to say and to understand the messages that every file operation sends.
#include <benchmark/benchmark.h>
#include <string>

#include "common/proto/codec.h"

namespace cairn {
namespace {

constexpr uint64_t kId = 0x1122334455667788;

Attributes some_attributes() {
  return {.inode = InodeId(kId), .mode = 0644, .uid = 1000, .gid = 1000, .nlink = 1, .size = 12345, .change = 7};
}

std::string some_capability() {
  return std::string(64, 'c');
}

LookupRequest lookup_request() {
  return {SessionId(1), InodeId(kId), "some_source_file.cc"};
}

EntryReply entry_reply() {
  return {.attributes = some_attributes(), .parent = some_attributes(), .lease = {1000, 3, 17}, .symlink_target = {}};
}

MutateRequest create_request() {
  CreateOp create{.parent = InodeId(kId), .name = "some_source_file.cc", .mode = 0644, .uid = 1000, .open = true};
  return {.session = SessionId(1), .sequence = 5, .first_unacknowledged = 4, .now = 1, .op = create};
}

MutationReply create_reply() {
  return {.attributes = some_attributes(), .parent = some_attributes(), .lease = {1000, 3, 17}};
}

// 64 KiB to the first of three replicas.
ChunkWriteRequest write_request() {
  return {.capability = some_capability(),
          .chunk = ChunkId(kId),
          .version = 2,
          .sequence = 9,
          .length = 64 * 1024,
          .checksums = std::vector<uint32_t>(16, 0x12345678),
          .inode = InodeId(kId),
          .file_size_bytes = 64 * 1024,
          .chain = {{ServerId(kId), "127.0.0.1:9701"}, {ServerId(kId + 1), "127.0.0.1:9702"}}};
}

ChunkWriteReply write_reply() {
  ReplicaAck ack{.server = ServerId(kId), .incarnation = kId, .sequence = 9, .synced_sequence = 3};
  return {.acks = {ack, ack, ack}};
}

template <class T>
void encode_message(benchmark::State& state, T (*make)()) {
  const T value = make();
  size_t bytes = 0;
  for (auto _ : state) {
    std::string encoded = encode(value);
    bytes = encoded.size();
    benchmark::DoNotOptimize(encoded);
  }
  state.counters["bytes"] = static_cast<double>(bytes);
}

template <class T>
void decode_message(benchmark::State& state, T (*make)()) {
  const std::string bytes = encode(make());
  for (auto _ : state) {
    Result<T> value = decode<T>(bytes);
    if (!value) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(value);
  }
}

#define CAIRN_BENCH_MESSAGE(make)                \
  BENCHMARK_CAPTURE(encode_message, make, make); \
  BENCHMARK_CAPTURE(decode_message, make, make);

CAIRN_BENCH_MESSAGE(lookup_request)
CAIRN_BENCH_MESSAGE(entry_reply)
CAIRN_BENCH_MESSAGE(create_request)
CAIRN_BENCH_MESSAGE(create_reply)
CAIRN_BENCH_MESSAGE(write_request)
CAIRN_BENCH_MESSAGE(write_reply)

// What an attacker's rubbish costs.
void refuse_message(benchmark::State& state) {
  const std::string bytes(64, 'x');
  for (auto _ : state) {
    Result<LookupRequest> value = decode<LookupRequest>(bytes);
    benchmark::DoNotOptimize(value);
  }
}
BENCHMARK(refuse_message);

}  // namespace
}  // namespace cairn
