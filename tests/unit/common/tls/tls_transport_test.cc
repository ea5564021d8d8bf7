// Who is let in, who is not and why; and that bytes arrive, in both kinds of protection. On the simulated network,
// whose time makes certificates expire and handshakes hang without anybody waiting. (What every transport does is in
// common/runtime/transport_test.cc, which runs on TLS, too.)
#include "common/tls/tls_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>

#include "common/runtime/sim_world.h"
#include "common/runtime/task_group.h"
#include "tests/unit/common/tls/test_certificates.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using StreamPtr = std::unique_ptr<Stream>;
constexpr int64_t kDayNs = 86400ll * 1'000'000'000ll;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Task<void> accept_into(Listener* listener, std::optional<Result<StreamPtr>>* out) {
  Result<StreamPtr> accepted = co_await listener->accept();
  out->emplace(std::move(accepted));
}

Task<Result<void>> send_text(Stream* stream, std::string text) {
  std::span<const std::byte> piece = bytes_of(text);
  Result<void> sent = co_await stream->write(std::span(&piece, 1));
  co_return sent;
}

Task<Result<std::string>> receive_text(Stream* stream, size_t size) {
  std::string text(size, '\0');
  Result<void> got = co_await stream->read_exact(std::as_writable_bytes(std::span(text)));
  if (!got) co_return got.error();
  co_return text;
}

Task<void> send_into(Stream* stream, const std::vector<std::string>* texts, std::optional<Result<void>>* out) {
  std::vector<std::span<const std::byte>> pieces;
  for (const std::string& text : *texts)
    pieces.push_back(bytes_of(text));
  Result<void> sent = co_await stream->write(pieces);
  out->emplace(std::move(sent));
}

Task<void> run_to(Task<void> body, bool* done) {
  co_await std::move(body);
  *done = true;
}

// Lengths around those of records and frames, contents that repeat nowhere.
std::vector<std::string> pattern(uint64_t seed, size_t total) {
  std::vector<std::string> out;
  uint64_t state = seed;
  auto next = [&state] { return state = state * 6364136223846793005ull + 1442695040888963407ull; };
  while (total > 0) {
    size_t sizes[] = {1, 52, 100, 4096, 16383, 16384, 16385, 65536, 70000, 1 << 20};
    size_t size = std::min(total, sizes[(next() >> 33) % std::size(sizes)]);
    std::string text(size, '\0');
    for (char& c : text)
      c = static_cast<char>(next() >> 40);
    out.push_back(std::move(text));
    total -= size;
  }
  return out;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts)
    out += text;
  return out;
}

class TlsTransportTest : public testing::Test {
 protected:
  TlsTransportTest() { node.start(); }

  std::unique_ptr<Transport> transport(std::shared_ptr<Credentials> credentials, TlsOptions options = {}) {
    return make_tls_transport(node.executor(), node.clock(), node.transport(), std::move(credentials), options);
  }
  std::shared_ptr<Credentials> load(const TlsFiles& files, PeerRole role, WallTime now) {
    auto loaded = Credentials::load(files, role, now);
    EXPECT_TRUE(loaded) << loaded.error().message();
    return *loaded;
  }
  WallTime wall() { return node.clock().wall(); }
  void run(Task<void> body) {
    bool done = false;
    node.spawn(run_to(std::move(body), &done));
    EXPECT_TRUE(simulator.run_until([&done] { return done; }, 600s));
  }

  // Both ends of one attempt: a stream or an error on each side. The server's error is in its log only, so `server`
  // stays empty if it lets nobody in.
  struct Attempt {
    std::optional<Result<StreamPtr>> server;
    Result<StreamPtr> client = Error(ErrorCode::kIo);
    Duration took{};
  };
  Task<void> meet(Transport* server, Transport* client, Attempt* out) {
    auto listener = server->listen(*parse_address("127.0.0.1:0"));
    EXPECT_TRUE(listener) << listener.error().message();
    Address address = (*listener)->address();
    TaskGroup group(node.executor(), node.clock());
    group.spawn(accept_into(listener->get(), &out->server));
    TimePoint begin = node.clock().now();
    Result<StreamPtr> connected = co_await client->connect(address, begin + 5s);
    out->took = node.clock().now() - begin;
    out->client = std::move(connected);
    for (int i = 0; out->client && !out->server && i < 100; ++i) {
      Result<void> slept = co_await group.sleep_for(1ms);
      (void)slept;
    }
  }
  // What the one who dials is told; checks that the server let nobody in.
  Error refusal(Transport& server, Transport& client) {
    Attempt attempt;
    run(meet(&server, &client, &attempt));
    EXPECT_FALSE(attempt.client);
    EXPECT_FALSE(attempt.server && *attempt.server);
    EXPECT_LT(attempt.took, 4s);
    return attempt.client ? Error(ErrorCode::kIo, "connected") : attempt.client.error();
  }

  Task<void> both_ways(Stream* left, Stream* right, std::vector<std::string> to_right,
                       std::vector<std::string> to_left) {
    std::string expect_right = joined(to_right);
    std::string expect_left = joined(to_left);
    std::optional<Result<void>> sent_right;
    std::optional<Result<void>> sent_left;
    TaskGroup group(node.executor(), node.clock());
    group.spawn(send_into(left, &to_right, &sent_right));
    group.spawn(send_into(right, &to_left, &sent_left));
    Result<std::string> got_right = co_await receive_text(right, expect_right.size());
    Result<std::string> got_left = co_await receive_text(left, expect_left.size());
    EXPECT_TRUE(got_right && *got_right == expect_right);
    EXPECT_TRUE(got_left && *got_left == expect_left);
    co_await group.stop();
    EXPECT_TRUE(sent_right && *sent_right);
    EXPECT_TRUE(sent_left && *sent_left);
  }

  Simulator simulator{1};
  SimNode& node = simulator.add_node("127.0.0.1");
  TestCertificates certificates{node.clock().wall()};
};

TEST_F(TlsTransportTest, BothSidesKnowEachOther) {
  auto server = transport(certificates.credentials(PeerRole::kMaster, "m"));
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  Attempt attempt;
  run(meet(server.get(), client.get(), &attempt));
  ASSERT_TRUE(attempt.client) << attempt.client.error().message();
  ASSERT_TRUE(attempt.server && *attempt.server);
  PeerIdentity master{.cluster = kTestCluster, .role = PeerRole::kMaster, .name = "m"};
  PeerIdentity mount{.cluster = kTestCluster, .role = PeerRole::kClient, .name = "c"};
  EXPECT_EQ(*(*attempt.client)->identity(), master);
  EXPECT_EQ(*(**attempt.server)->identity(), mount);
  run(both_ways(attempt.client->get(), (*attempt.server)->get(), pattern(1, 20 << 20), pattern(2, 20 << 20)));
}

TEST_F(TlsTransportTest, AuthenticatedDataArrivesWholeToo) {
  TlsOptions options{.authenticated_data = true};
  auto server = transport(certificates.credentials(PeerRole::kChunkserver, "s"), options);
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"), options);
  Attempt attempt;
  run(meet(server.get(), client.get(), &attempt));
  ASSERT_TRUE(attempt.client) << attempt.client.error().message();
  EXPECT_EQ((*attempt.client)->identity()->name, "s");
  EXPECT_EQ((**attempt.server)->identity()->name, "c");
  run(both_ways(attempt.client->get(), (*attempt.server)->get(), pattern(3, 20 << 20), pattern(4, 20 << 20)));
}

TEST_F(TlsTransportTest, PeerWithoutCertificateIsRefused) {
  auto server = transport(certificates.credentials(PeerRole::kMaster, "m"));
  auto listener = server->listen(*parse_address("127.0.0.1:0"));
  ASSERT_TRUE(listener);
  // In clear: what comes back is an alert, which is no frame and no answer.
  auto client = transport(nullptr);
  std::optional<Result<StreamPtr>> accepted;
  node.spawn(accept_into(listener->get(), &accepted));
  auto talk = [](Transport* transport, Address address, TimePoint deadline, std::string* got) -> Task<void> {
    Result<StreamPtr> stream = co_await transport->connect(address, deadline);
    EXPECT_TRUE(stream);
    Result<void> sent = co_await send_text(stream->get(), "CRN1 in clear");
    EXPECT_TRUE(sent);
    Result<std::string> answer = co_await receive_text(stream->get(), 52);  // as much as a frame's header
    EXPECT_TRUE(answer);
    *got = answer.value_or("");
  };
  std::string got;
  run(talk(client.get(), (*listener)->address(), node.clock().now() + 5s, &got));
  EXPECT_EQ(got.substr(0, 2), "\x15\x03");
  EXPECT_FALSE(accepted);
  listener->reset();
}

TEST_F(TlsTransportTest, ServerWithoutTlsIsNamed) {
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  auto listener = node.transport().listen(*parse_address("127.0.0.1:0"));
  ASSERT_TRUE(listener);
  auto answer_in_clear = [](Listener* listening) -> Task<void> {
    Result<StreamPtr> stream = co_await listening->accept();
    Result<std::string> hello = co_await receive_text(stream->get(), 10);
    EXPECT_TRUE(hello);
    Result<void> sent = co_await send_text(stream->get(), "CRN1, who are you?");
    EXPECT_TRUE(sent);
  };
  node.spawn(answer_in_clear(listener->get()));
  auto dial = [](Transport* transport, Address address, TimePoint deadline, std::string* said) -> Task<void> {
    Result<StreamPtr> stream = co_await transport->connect(address, deadline);
    EXPECT_TRUE(stream.failed_with(ErrorCode::kUnauthorized));
    *said = stream ? "" : stream.error().context;
  };
  std::string said;
  run(dial(client.get(), (*listener)->address(), node.clock().now() + 5s, &said));
  EXPECT_THAT(said, HasSubstr("speaks without TLS"));
}

TEST_F(TlsTransportTest, CertificateOfAnotherClusterIsRefusedByBoth) {
  TestCertificates others(wall(), ClusterId(0xB2));
  auto server = transport(certificates.credentials(PeerRole::kMaster, "m"));
  auto client = transport(others.credentials(PeerRole::kClient, "c"));
  Error error = refusal(*server, *client);
  EXPECT_EQ(error.code, ErrorCode::kWrongCluster);
  EXPECT_THAT(error.context, HasSubstr("cairn://00000000000000a1/master/m is of cluster 00000000000000a1"));
}

// The same cluster's id, but not its authority: only the signature tells.
TEST_F(TlsTransportTest, CertificateOfAForgedAuthorityIsRefused) {
  TestCertificates forged(wall(), kTestCluster);
  auto server = transport(certificates.credentials(PeerRole::kMaster, "m"));
  auto client = transport(forged.credentials(PeerRole::kClient, "c"));
  Error error = refusal(*server, *client);
  EXPECT_THAT(error.context, HasSubstr("not signed by the authority that is known here"));

  // The server's turn to see it: a client that believes both authorities shows a forged certificate.
  TlsFiles files = forged.issue(PeerRole::kClient, "d");
  forged.put("ca.crt", forged.authority().certificate + certificates.authority().certificate);
  auto believer = transport(load(files, PeerRole::kClient, wall()));
  Error told = refusal(*server, *believer);
  EXPECT_EQ(told.code, ErrorCode::kUnauthorized);
  EXPECT_THAT(told.context, HasSubstr("this side's certificate"));
}

TEST_F(TlsTransportTest, ExpiredCertificatesAreRefusedAndTheDateIsSaid) {
  WallTime then{wall().ns - 20 * kDayNs};
  auto server = transport(certificates.credentials(PeerRole::kMaster, "m"));
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  // Loaded while they were valid.
  auto old_client = transport(load(certificates.issue(PeerRole::kClient, "oc", then, 10), PeerRole::kClient, then));
  auto old_server = transport(load(certificates.issue(PeerRole::kMaster, "om", then, 10), PeerRole::kMaster, then));
  Error told = refusal(*server, *old_client);
  EXPECT_EQ(told.code, ErrorCode::kUnauthorized);
  EXPECT_THAT(told.context, HasSubstr("certificate has expired"));
  Error seen = refusal(*old_server, *client);
  EXPECT_EQ(seen.code, ErrorCode::kUnauthorized);
  EXPECT_THAT(seen.context, HasSubstr("cairn://00000000000000a1/master/om expired on"));
}

TEST_F(TlsTransportTest, CertificateThatIsNotYetValidIsRefused) {
  WallTime later{wall().ns + 20 * kDayNs};
  auto server = transport(load(certificates.issue(PeerRole::kMaster, "m", later, 10), PeerRole::kMaster, later));
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  EXPECT_THAT(refusal(*server, *client).context, HasSubstr("are the clocks right?"));
}

TEST_F(TlsTransportTest, ClientsCertificateDoesNotMakeAServer) {
  auto server = transport(certificates.credentials(PeerRole::kClient, "false-master"));
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  Error error = refusal(*server, *client);
  EXPECT_EQ(error.code, ErrorCode::kUnauthorized);
  EXPECT_THAT(error.context, HasSubstr("client/false-master is not one for a server"));
}

TEST_F(TlsTransportTest, GarbageIsRefusedAndHoldsUpNobody) {
  auto server = transport(certificates.credentials(PeerRole::kMaster, "m"));
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  auto listener = server->listen(*parse_address("127.0.0.1:0"));
  ASSERT_TRUE(listener);
  auto vandal = [](Transport* plain, Address address, TimePoint deadline, std::string text) -> Task<void> {
    Result<StreamPtr> stream = co_await plain->connect(address, deadline);
    EXPECT_TRUE(stream);
    Result<void> sent = co_await send_text(stream->get(), text);
    Result<std::string> end = co_await receive_text(stream->get(), 1 << 20);
    EXPECT_TRUE(end.failed_with(ErrorCode::kUnavailable));
    (void)sent;
  };
  TimePoint deadline = node.clock().now() + 5s;
  std::string handshake_like = "\x16\x03\x01\x02\x00" + std::string(512, '\x01');
  for (const std::string& text : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(3000, '\0'), handshake_like})
    run(vandal(&node.transport(), (*listener)->address(), deadline, text));
  std::optional<Result<StreamPtr>> accepted;
  node.spawn(accept_into(listener->get(), &accepted));
  auto dial = [](Transport* transport, Address address, TimePoint until) -> Task<void> {
    Result<StreamPtr> stream = co_await transport->connect(address, until);
    EXPECT_TRUE(stream);
  };
  run(dial(client.get(), (*listener)->address(), node.clock().now() + 5s));
  EXPECT_TRUE(simulator.run_until([&] { return accepted && accepted->has_value(); }, 1s));
}

TEST_F(TlsTransportTest, HandshakeThatHangsEndsAndHoldsUpNobody) {
  auto server =
      transport(certificates.credentials(PeerRole::kMaster, "m"), {.handshake_time = 3s, .handshakes_max = 4});
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  auto listener = server->listen(*parse_address("127.0.0.1:0"));
  ASSERT_TRUE(listener);
  std::optional<Result<StreamPtr>> accepted;
  node.spawn(accept_into(listener->get(), &accepted));
  // More than may be under way at once: they connect and say nothing.
  std::vector<TimePoint> ended;
  auto silent = [](SimNode* at, Address address, std::vector<TimePoint>* out) -> Task<void> {
    Result<StreamPtr> stream = co_await at->transport().connect(address, at->clock().now() + 5s);
    EXPECT_TRUE(stream);
    Result<std::string> end = co_await receive_text(stream->get(), 1);
    EXPECT_FALSE(end);
    out->push_back(at->clock().now());
  };
  for (int i = 0; i < 6; ++i)
    node.spawn(silent(&node, (*listener)->address(), &ended));
  TimePoint begin = node.clock().now();
  auto dial = [](Transport* transport, Address address, TimePoint until) -> Task<void> {
    Result<StreamPtr> stream = co_await transport->connect(address, until);
    EXPECT_TRUE(stream);
  };
  run(dial(client.get(), (*listener)->address(), begin + 2s));
  EXPECT_TRUE(simulator.run_until([&] { return accepted && accepted->has_value(); }, 1s));
  EXPECT_LT(node.clock().now() - begin, 1s);
  EXPECT_TRUE(simulator.run_until([&] { return ended.size() == 6; }, 10s));
  EXPECT_LE(ended.back() - begin, 4s);
}

TEST_F(TlsTransportTest, DialledServerThatHangsTimesOut) {
  auto client = transport(certificates.credentials(PeerRole::kClient, "c"));
  auto listener = node.transport().listen(*parse_address("127.0.0.1:0"));
  ASSERT_TRUE(listener);
  std::optional<Result<StreamPtr>> accepted;
  node.spawn(accept_into(listener->get(), &accepted));
  auto dial = [](Transport* transport, Address address, TimePoint until) -> Task<void> {
    Result<StreamPtr> stream = co_await transport->connect(address, until);
    EXPECT_TRUE(stream.failed_with(ErrorCode::kTimeout));
  };
  TimePoint begin = node.clock().now();
  run(dial(client.get(), (*listener)->address(), begin + 2s));
  EXPECT_LE(node.clock().now() - begin, 3s);
}

// ---- what is altered on the way

// Passes everything on, but flips one bit of what goes to the server after so many bytes.
Task<void> pass_on(Stream* from, Stream* to, size_t flip_at) {
  std::vector<std::byte> buffer(4096);
  size_t passed = 0;
  for (;;) {
    Result<size_t> got = co_await from->read_some(buffer);
    if (!got) break;
    if (flip_at >= passed && flip_at < passed + *got) buffer[flip_at - passed] ^= std::byte{4};
    passed += *got;
    std::span<const std::byte> piece = std::span(buffer).first(*got);
    Result<void> sent = co_await to->write(std::span(&piece, 1));
    if (!sent) break;
  }
  from->close();
  to->close();
}

class AlteredTest : public TlsTransportTest, public testing::WithParamInterface<bool> {
 protected:
  Task<void> alter(size_t flip_at, bool* arrived, bool* refused) {
    TlsOptions options{.authenticated_data = GetParam()};
    auto server = transport(certificates.credentials(PeerRole::kChunkserver, "s"), options);
    auto client = transport(certificates.credentials(PeerRole::kClient, "c"), options);
    auto listener = server->listen(*parse_address("127.0.0.1:0"));
    auto middle = node.transport().listen(*parse_address("127.0.0.1:0"));
    TaskGroup group(node.executor(), node.clock());
    std::optional<Result<StreamPtr>> in_middle;
    std::optional<Result<StreamPtr>> accepted;
    group.spawn(accept_into(middle->get(), &in_middle));
    group.spawn(accept_into(listener->get(), &accepted));
    Result<StreamPtr> onward = co_await node.transport().connect((*listener)->address(), node.clock().now() + 5s);
    std::optional<Result<StreamPtr>> dialled;
    auto dial = [](Transport* by, Address address, TimePoint until,
                   std::optional<Result<StreamPtr>>* out) -> Task<void> {
      Result<StreamPtr> stream = co_await by->connect(address, until);
      out->emplace(std::move(stream));
    };
    group.spawn(dial(client.get(), (*middle)->address(), node.clock().now() + 5s, &dialled));
    while (!in_middle) {
      Result<void> slept = co_await group.sleep_for(1ms);
      (void)slept;
    }
    group.spawn(pass_on((**in_middle).get(), onward->get(), flip_at));
    group.spawn(pass_on(onward->get(), (**in_middle).get(), SIZE_MAX));
    for (int i = 0; i < 1000 && !(dialled && (!*dialled || accepted)); ++i) {
      Result<void> slept = co_await group.sleep_for(1ms);
      (void)slept;
    }
    *refused = !dialled || !*dialled;
    if (!*refused) {
      std::string text(100'000, 'x');
      Result<void> sent = co_await send_text((*dialled)->get(), text);
      (void)sent;
      Result<std::string> got = co_await receive_text((**accepted).get(), text.size());
      *arrived = got.has_value();
      EXPECT_TRUE(!got || *got == text);
      if (!got) EXPECT_TRUE(got.failed_with(ErrorCode::kUnavailable));
    }
    (**in_middle)->close();
    (*onward)->close();
    (*listener)->close();
    (*middle)->close();
    co_await group.stop();
  }
};

TEST_P(AlteredTest, OneBitEndsTheConnection) {
  bool arrived = false;
  bool refused = false;
  run(alter(SIZE_MAX, &arrived, &refused));
  EXPECT_TRUE(arrived);
  // In the handshake, and beyond it, in lengths, bytes and tags.
  for (size_t at = 20; at < 100'000; at = at * 3 / 2) {
    arrived = false;
    refused = false;
    run(alter(at, &arrived, &refused));
    EXPECT_FALSE(arrived) << at;
  }
}

INSTANTIATE_TEST_SUITE_P(Encrypted, AlteredTest, testing::Values(false));
INSTANTIATE_TEST_SUITE_P(Authenticated, AlteredTest, testing::Values(true));

// ---- without a certificate

TEST_F(TlsTransportTest, WithoutCertificateOnlyThisMachineIsReached) {
  auto bare = transport(nullptr);
  auto listening = bare->listen(*parse_address("0.0.0.0:0"));
  ASSERT_TRUE(listening.failed_with(ErrorCode::kUnauthorized));
  EXPECT_THAT(listening.error().context, HasSubstr("cairn cluster init"));
  EXPECT_TRUE(bare->listen(*parse_address("127.0.0.1:0")));
  auto dial = [](Transport* by, TimePoint until) -> Task<void> {
    Result<StreamPtr> stream = co_await by->connect(*parse_address("10.0.0.1:9400"), until);
    EXPECT_TRUE(stream.failed_with(ErrorCode::kUnauthorized));
    EXPECT_THAT(stream.error().context, HasSubstr("cairn cluster issue"));
  };
  run(dial(bare.get(), node.clock().now() + 1s));
  auto off = transport(nullptr, {.clear_anywhere = true});
  EXPECT_TRUE(off->listen(*parse_address("127.0.0.1:0")));
}

TEST(StaysOnThisMachine, IsNotFooledByNames) {
  for (const char* text : {"127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/x"})
    EXPECT_TRUE(stays_on_this_machine(*parse_address(text))) << text;
  for (const char* text : {"127.example.com:1", "0.0.0.0:1", "10.0.0.1:1", "localhost.example.com:1", "[::]:1"})
    EXPECT_FALSE(stays_on_this_machine(*parse_address(text))) << text;
}

}  // namespace
}  // namespace cairn
