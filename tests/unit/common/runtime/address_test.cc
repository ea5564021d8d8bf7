#include <gtest/gtest.h>

#include "common/runtime/transport.h"

namespace cairn {
namespace {

TEST(Address, ReadsEachForm) {
  EXPECT_EQ(*parse_address("tcp:127.0.0.1:7000"), (Address{Address::Kind::kTcp, "127.0.0.1", 7000}));
  EXPECT_EQ(*parse_address("localhost:0"), (Address{Address::Kind::kTcp, "localhost", 0}));
  EXPECT_EQ(*parse_address("tcp:[::1]:65535"), (Address{Address::Kind::kTcp, "::1", 65535}));
  EXPECT_EQ(*parse_address("unix:/run/cairn.sock"), (Address{Address::Kind::kUnix, "/run/cairn.sock", 0}));
}

TEST(Address, WritesWhatItReads) {
  for (const char* text : {"tcp:127.0.0.1:7000", "tcp:master-1.example:1", "tcp:[fe80::1]:9", "unix:/a/b c"}) {
    Result<Address> address = parse_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), text);
  }
}

TEST(Address, RefusesWhatIsNone) {
  for (const char* text : {"", "tcp:", "host", "host:", ":7000", "host:65536", "host:-1", "host:70x", "host: 7",
                           "::1:7000", "[]:7000", "[::1]7000", "unix:", "unix:relative", "a/b:7000", "tcp:[::1:7000"}) {
    Result<Address> address = parse_address(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.code(), ErrorCode::kInvalid);
    EXPECT_NE(address.error().context.find(text), std::string::npos);
  }
}

}  // namespace
}  // namespace cairn
