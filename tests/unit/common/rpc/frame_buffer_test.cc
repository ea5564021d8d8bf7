#include "common/rpc/frame_buffer.h"

#include <gtest/gtest.h>
#include <string>

#include "common/base/random.h"
#include "rpc_fixture.h"

namespace cairn {
namespace {

void receive(FrameBuffer& buffer, std::string_view bytes) {
  std::span<std::byte> space = buffer.space();
  ASSERT_GE(space.size(), bytes.size());
  std::memcpy(space.data(), bytes.data(), bytes.size());
  buffer.filled(bytes.size());
}

TEST(FrameBuffer, FramesCutAtAnyPlaceComeOutWhole) {
  std::string stream;
  for (int i = 0; i < 400; ++i)
    stream += frame_bytes(FrameHeader{.kind = FrameKind::kRequest, .request_id = static_cast<uint64_t>(i)},
                          std::string(static_cast<size_t>(i * 7 % 1000), 'm'));
  std::unique_ptr<Random> random = make_seeded_random(3);
  FrameBuffer buffer;
  size_t sent = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    std::string message;
    auto more = [&] {
      ASSERT_LT(sent, stream.size());
      size_t count = std::min({stream.size() - sent, buffer.space().size(), 1 + random->below(2000)});
      receive(buffer, std::string_view(stream).substr(sent, count));
      sent += count;
    };
    while (!buffer.has_header())
      more();
    Result<FrameHeader> header = buffer.take_header();
    ASSERT_TRUE(header.has_value());
    ASSERT_EQ(header->request_id, i);
    message.resize(header->message_bytes);
    size_t got = 0;
    while (got < message.size()) {
      got += buffer.take(std::as_writable_bytes(std::span(message)).subspan(got));
      if (got < message.size()) more();
    }
    ASSERT_EQ(message, std::string(i * 7 % 1000, 'm'));
  }
  EXPECT_EQ(sent, stream.size());
  EXPECT_EQ(buffer.size(), 0u);
}

TEST(FrameBuffer, AfterALargePayloadLittleIsReadAhead) {
  FrameBuffer buffer;
  EXPECT_EQ(buffer.space().size(), FrameBuffer::kCapacityBytes);
  receive(buffer, frame_bytes(FrameHeader{.kind = FrameKind::kRequest}, "", std::string(40'000, 'p')));
  ASSERT_TRUE(buffer.take_header().has_value());
  EXPECT_EQ(buffer.skip(100'000), 40'000u);
  EXPECT_EQ(buffer.space().size(), FrameBuffer::kShortReadBytes);
  receive(buffer, frame_bytes(FrameHeader{.kind = FrameKind::kRequest}, ""));
  ASSERT_TRUE(buffer.take_header().has_value());
  EXPECT_EQ(buffer.space().size(), FrameBuffer::kCapacityBytes);
}

}  // namespace
}  // namespace cairn
