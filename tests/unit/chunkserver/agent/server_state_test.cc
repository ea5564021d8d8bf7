#include "chunkserver/agent/server_state.h"

#include <gtest/gtest.h>

#include "common/runtime/memory_disk.h"

namespace cairn {
namespace {

const ServerState kState{.incarnation = 9, .masters = {.term = 4, .log_time_ms = 123'456}};

TEST(ServerState, IsReadBackAsItWas) {
  Result<ServerState> read = decode_server_state(encode_server_state(kState));
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, kState);
}

TEST(ServerState, DamageIsFound) {
  std::string good = encode_server_state(kState);
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    EXPECT_FALSE(decode_server_state(bad)) << i;
    EXPECT_FALSE(decode_server_state(good.substr(0, i))) << i;
  }
  EXPECT_FALSE(decode_server_state(good + "x"));
}

TEST(ServerState, NewServerHasStartedNever) {
  MemoryDisk disk;
  Result<ServerState> state = load_server_state(disk, {"/a", "/b"});
  ASSERT_TRUE(state);
  EXPECT_EQ(*state, ServerState{});
}

TEST(ServerState, HighestOfAllDirectoriesCounts) {
  MemoryDisk disk;
  ASSERT_TRUE(disk.make_folder("/a"));
  ASSERT_TRUE(disk.make_folder("/b"));
  ASSERT_TRUE(save_server_state(disk, {"/a"}, {.incarnation = 5, .masters = {.term = 9, .log_time_ms = 10}}));
  ASSERT_TRUE(save_server_state(disk, {"/b"}, {.incarnation = 7, .masters = {.term = 8, .log_time_ms = 20}}));
  Result<ServerState> state = load_server_state(disk, {"/a", "/b", "/new"});
  ASSERT_TRUE(state);
  EXPECT_EQ(*state, (ServerState{.incarnation = 7, .masters = {.term = 9, .log_time_ms = 20}}));
}

TEST(ServerState, OneGoodDirectoryIsEnough) {
  MemoryDisk disk;
  ASSERT_TRUE(disk.make_folder("/a"));
  ASSERT_TRUE(disk.make_folder("/b"));
  ASSERT_TRUE(save_server_state(disk, {"/missing", "/a", "/b"}, kState));
  ASSERT_TRUE(disk.flip_byte("/a/STATE", 3));
  Result<ServerState> state = load_server_state(disk, {"/a", "/b"});
  ASSERT_TRUE(state) << state.error().message();
  EXPECT_EQ(*state, kState);
  // Counting from zero again would let a new start pass for an old one.
  ASSERT_TRUE(disk.flip_byte("/b/STATE", 3));
  EXPECT_FALSE(load_server_state(disk, {"/a", "/b"}));
  EXPECT_FALSE(save_server_state(disk, {"/missing"}, kState));
}

TEST(ServerState, SavedIsDurable) {
  MemoryDisk disk;
  ASSERT_TRUE(disk.make_folder("/a"));
  ASSERT_TRUE(disk.sync_folder("/"));
  ASSERT_TRUE(save_server_state(disk, {"/a"}, kState));
  disk.crash();
  EXPECT_EQ(*load_server_state(disk, {"/a"}), kState);
}

}  // namespace
}  // namespace cairn
