#include "rpc_fixture.h"

#include <array>
#include <cstring>

#include "common/base/crc32c.h"

namespace cairn {

namespace {
const Buffer& whole_pattern() {
  static const Buffer whole = [] {
    Buffer buffer = Buffer::allocate(8 << 20);
    for (size_t i = 0; i < buffer.size(); ++i)
      buffer.mutable_span()[i] = static_cast<std::byte>((i * 131) ^ (i >> 8) ^ (i >> 16));
    return buffer;
  }();
  return whole;
}
}  // namespace

Buffer pattern(size_t size) {
  return Buffer::copy_of(whole_pattern().span().first(size));
}

bool is_pattern(std::span<const std::byte> bytes) {
  return bytes.empty() || std::memcmp(bytes.data(), whole_pattern().data(), bytes.size()) == 0;
}

std::string frame_bytes(FrameHeader header, std::string_view message, std::string_view payload) {
  header.message_bytes = static_cast<uint32_t>(message.size());
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  header.message_crc = crc32c(message);
  std::array<char, kFrameHeaderBytes> encoded = encode_header(header);
  std::string bytes(encoded.data(), encoded.size());
  bytes += message;
  bytes += payload;
  return bytes;
}

std::string hello_frame(Hello hello) {
  return frame_bytes(FrameHeader{.kind = FrameKind::kHello}, encode_hello(hello));
}

Task<Result<void>> BareStream::send_frame(FrameHeader header, std::string message, std::string payload) {
  Result<void> sent = co_await send(frame_bytes(header, message, payload));
  co_return sent;
}

Task<Result<BareStream::Frame>> BareStream::receive() {
  std::array<std::byte, kFrameHeaderBytes> bytes;
  Result<void> read = co_await stream_->read_exact(bytes);
  if (!read) co_return read.error();
  Result<FrameHeader> header = decode_header(bytes);
  if (!header) co_return header.error();
  Frame frame{.header = *header, .message = std::string(header->message_bytes, '\0')};
  std::string payload(header->payload_bytes, '\0');
  read = co_await stream_->read_exact(std::as_writable_bytes(std::span(frame.message)));
  if (!read) co_return read.error();
  read = co_await stream_->read_exact(std::as_writable_bytes(std::span(payload)));
  if (!read) co_return read.error();
  co_return frame;
}

Task<std::string> BareStream::receive_all() {
  std::string all;
  std::array<std::byte, 4096> part;
  for (;;) {
    Result<size_t> count = co_await stream_->read_some(part);
    if (!count) break;
    all.append(reinterpret_cast<const char*>(part.data()), *count);
  }
  co_return all;
}

void RpcTest::start_server() {
  server = std::make_unique<RpcServer>(world, server_options);
  service.add_to(*server);
  Result<Address> listening = server->listen(*parse_address(test_world->listen_address()));
  ASSERT_TRUE(listening) << listening.error().message();
  address = *listening;
}

void RpcTest::run(Task<void> body) {
  start_server();
  start_client();
  test_world->run(whole(std::move(body)));
}

Task<void> RpcTest::whole(Task<void> body) {
  co_await std::move(body);
  co_await stop_all();
}

Task<void> RpcTest::stop_all() {
  service.release();
  if (client) co_await client->stop();
  if (server) co_await server->stop();
  client.reset();
  server.reset();
}

Task<Result<RpcMessage>> RpcTest::call(MethodId method, RpcMessage request) {
  Result<RpcMessage> answer = co_await client->call(method, std::move(request), {.deadline = soon()});
  co_return answer;
}

Task<BareStream> RpcTest::connect_bare() {
  Result<std::unique_ptr<Stream>> stream = co_await world.transport().connect(address, soon());
  EXPECT_TRUE(stream);
  co_return BareStream(std::move(*stream));
}

Task<BareStream> RpcTest::connect_greeted() {
  BareStream bare = co_await connect_bare();
  Result<void> sent = co_await bare.send(hello_frame(client_options.hello));
  EXPECT_TRUE(sent);
  Result<BareStream::Frame> hello = co_await bare.receive();
  EXPECT_TRUE(hello);
  EXPECT_TRUE(hello && hello->header.kind == FrameKind::kHello);
  co_return bare;
}

Task<void> RpcTest::round_trips(size_t count) {
  RpcClient other(world, address, client_options);
  for (size_t i = 0; i < count; ++i) {
    Result<RpcMessage> answer = co_await other.call(kEcho, text("turn"), {.deadline = soon()});
    EXPECT_TRUE(answer) << answer.error().message();
  }
  co_await other.stop();
}

double RpcTest::metric(std::string_view name) {
  std::string all = world.metrics().render();
  size_t at = all.find("\n" + std::string(name) + " ");
  return at == std::string::npos ? -1 : std::stod(all.substr(at + name.size() + 2));
}

}  // namespace cairn
