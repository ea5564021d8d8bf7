#include "common/runtime/sim_network.h"

#include <algorithm>
#include <cstring>

#include "common/base/check.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

namespace {

using Pieces = std::span<const std::span<const std::byte>>;
using StreamPtr = std::unique_ptr<Stream>;

// What a kernel keeps of one direction: sent, and not yet read by the other program.
constexpr size_t kWindowBytes = 512 * 1024;
constexpr size_t kSegmentBytesMax = 64 * 1024;
constexpr size_t kBacklogMax = 128;
// Same machine.
constexpr Duration kLoopbackMin = std::chrono::microseconds(5);
constexpr Duration kLoopbackMax = std::chrono::microseconds(30);
// tcp_transport.cc: the user timeout, and keepalive on an idle connection.
constexpr Duration kGiveUpMin = std::chrono::seconds(15);
constexpr Duration kGiveUpMax = std::chrono::seconds(19);
constexpr Duration kResendMax = std::chrono::milliseconds(300);
constexpr Duration kKnockAgain = std::chrono::seconds(1);

}  // namespace

class SimNetwork::Wait {
 public:
  Wait(Executor& executor, Wait*& slot) : promise_(executor), slot_(slot) {
    CHECK(!slot_);  // two at once: the caller broke the stream's rule
    slot_ = this;
  }
  ~Wait() {
    if (slot_ == this) slot_ = nullptr;
  }
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  Future<void> woken() { return promise_.future(); }
  static void wake(Wait*& slot) {
    if (slot) std::exchange(slot, nullptr)->promise_.set({});
  }

 private:
  Promise<void> promise_;
  Wait*& slot_;
};

// What has arrived and was not read yet.
class SimNetwork::ByteQueue {
 public:
  size_t size() const { return bytes_.size() - head_; }
  bool empty() const { return size() == 0; }
  void append(std::span<const std::byte> bytes) {
    if (head_ > bytes_.size() / 2) {
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(head_));
      head_ = 0;
    }
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  size_t take(std::span<std::byte> out) {
    size_t here = std::min(out.size(), size());
    if (here > 0) std::memcpy(out.data(), bytes_.data() + head_, here);
    head_ += here;
    return here;
  }
  void clear() {
    bytes_.clear();
    head_ = 0;
  }

 private:
  std::vector<std::byte> bytes_;
  size_t head_ = 0;
};

struct SimNetwork::End {
  SimNode* node = nullptr;
  uint64_t life = 0;      // of the node's process
  bool open = true;       // the process holds it
  bool vanished = false;  // its machine lost power: nothing answers for it
  std::optional<Error> broken;

  ByteQueue received;
  bool end_received = false;
  size_t unread_by_peer = 0;           // bytes sent from here that the other program has not read
  uint64_t sent = 0;                   // segments sent from here
  uint64_t arrived = 0;                // segments from here that arrived
  std::optional<uint64_t> lost_after;  // segments from here with a higher number never arrive
  TimePoint last_arrival{};            // of what was sent from here: TCP keeps the order
  std::deque<Segment> stalled;         // sent from here, held up by a partition
  Wait* reader = nullptr;
  Wait* writer = nullptr;
};

struct SimNetwork::Connection {
  uint64_t id = 0;
  End ends[2];  // 0: who connected
  std::string names[2];

  bool dead() const { return !ends[0].open && !ends[1].open; }
};

// A connect() under way. Shared by the frame that waits and by the network's events.
struct SimNetwork::Dial {
  Dial(SimNode& node_in, std::string key_in, SimNode& target_in)
      : node(node_in), life(node_in.life_), target(target_in), key(std::move(key_in)), done(node_in.executor()) {}
  SimNode& node;
  uint64_t life;
  SimNode& target;
  std::string key;
  std::string name;
  bool given_up = false;
  Promise<ConnectionPtr> done;

  bool waiting() const { return !given_up && !done.is_set() && node.running_ && node.life_ == life; }
};

struct SimNetwork::Listening {
  SimNode* node = nullptr;
  std::string key;
  Address address;
  bool closed = false;
  std::deque<Accepted> queue;
  Wait* waiter = nullptr;
};

class SimNetwork::SimStream final : public Stream {
 public:
  SimStream(SimNetwork& network, ConnectionPtr connection, int side)
      : network_(network), connection_(std::move(connection)), side_(side) {}
  ~SimStream() override { close(); }

  Task<Result<size_t>> read_some(std::span<std::byte> out) override {
    return network_.receive(connection_, side_, out, false);
  }
  Task<Result<void>> read_exact(std::span<std::byte> out) override {
    return network_.receive_exact(connection_, side_, out);
  }
  Task<Result<void>> write(Pieces pieces) override { return network_.send(connection_, side_, pieces); }
  void close() override { network_.close_end(connection_, side_); }
  std::string peer() const override { return connection_->names[1 - side_]; }

 private:
  SimNetwork& network_;
  ConnectionPtr connection_;
  int side_;
};

class SimNetwork::SimListener final : public Listener {
 public:
  SimListener(SimNetwork& network, std::shared_ptr<Listening> listening)
      : network_(network), listening_(std::move(listening)) {}
  ~SimListener() override { close(); }
  Task<Result<StreamPtr>> accept() override { return network_.accept(listening_); }
  void close() override { network_.stop_listening(listening_); }
  Address address() const override { return listening_->address; }

 private:
  SimNetwork& network_;
  std::shared_ptr<Listening> listening_;
};

class SimNetwork::SimTransport final : public Transport {
 public:
  SimTransport(SimNetwork& network, SimNode& node) : network_(network), node_(node) {}
  Task<Result<StreamPtr>> connect(Address address, TimePoint deadline) override {
    return network_.connect(&node_, std::move(address), deadline);
  }
  Result<std::unique_ptr<Listener>> listen(const Address& address) override { return network_.listen(node_, address); }

 private:
  SimNetwork& network_;
  SimNode& node_;
};

SimNetwork::SimNetwork(Simulator& simulator, std::unique_ptr<Random> random)
    : simulator_(simulator), random_(std::move(random)) {}
SimNetwork::~SimNetwork() = default;

std::unique_ptr<Transport> SimNetwork::make_transport(SimNode& node) {
  return std::make_unique<SimTransport>(*this, node);
}

// ---- Time and partitions

Duration SimNetwork::latency(const SimNode& from, const SimNode& to) {
  if (&from == &to) return Simulator::draw(*random_, kLoopbackMin, kLoopbackMax);
  const SimOptions& options = simulator_.options();
  Duration drawn = Simulator::draw(*random_, options.latency_min, options.latency_max);
  return random_->chance(1, 64) ? drawn * 10 : drawn;
}

bool SimNetwork::blocked(const SimNode& from, const SimNode& to) const {
  return blocked_.contains({from.index_, to.index_});
}

void SimNetwork::later(Duration delay, const char* label, uint64_t detail, std::move_only_function<void()> fn) {
  simulator_.schedule(simulator_.now_ + delay,
                      Simulator::Event{nullptr, Simulator::EventKind::kNetwork, label, detail, std::move(fn)});
}

std::vector<SimNetwork::ConnectionPtr> SimNetwork::connections_between(const SimNode* a, const SimNode* b) {
  std::vector<ConnectionPtr> found;
  for (auto entry = connections_.begin(); entry != connections_.end();) {
    ConnectionPtr connection = entry->second.lock();
    if (!connection || connection->dead()) {
      entry = connections_.erase(entry);
      continue;
    }
    ++entry;
    const SimNode* x = connection->ends[0].node;
    const SimNode* y = connection->ends[1].node;
    if ((x == a && (!b || y == b)) || (y == a && (!b || x == b))) found.push_back(std::move(connection));
  }
  return found;
}

void SimNetwork::block(SimNode& from, SimNode& to) {
  std::pair pair{from.index_, to.index_};
  if (!blocked_.insert(pair).second) return;
  uint64_t number = ++blocks_;
  block_number_[pair] = number;
  for (const ConnectionPtr& connection : connections_between(&from, &to))
    give_up_later(connection, number, from, to);
}

void SimNetwork::give_up_later(const ConnectionPtr& connection, uint64_t block_number, SimNode& from, SimNode& to) {
  Duration patience = Simulator::draw(*random_, kGiveUpMin, kGiveUpMax);
  later(patience, "give up", connection->id, [this, connection, block_number, &from, &to] {
    auto current = block_number_.find({from.index_, to.index_});
    if (current == block_number_.end() || current->second != block_number) return;
    for (int side : {0, 1})
      break_end(*connection, side, "timed out");
  });
}

void SimNetwork::unblock(SimNode& from, SimNode& to) {
  if (blocked_.erase({from.index_, to.index_}) == 0) return;
  block_number_.erase({from.index_, to.index_});
  for (const ConnectionPtr& connection : connections_between(&from, &to)) {
    for (int side : {0, 1}) {
      End& end = connection->ends[side];
      if (end.node != &from || end.stalled.empty()) continue;
      // The kernel tries again when its timer says so.
      Duration wait = Simulator::draw(*random_, Duration::zero(), kResendMax);
      later(wait, "resend", connection->id, [this, connection, side] {
        std::deque<Segment> stalled = std::exchange(connection->ends[side].stalled, {});
        for (Segment& segment : stalled)
          arrive(connection, 1 - side, std::move(segment));
      });
    }
  }
}

void SimNetwork::unblock_all() {
  std::set<std::pair<uint64_t, uint64_t>> pairs = blocked_;
  for (auto [from, to] : pairs)
    unblock(*simulator_.nodes_[from - 1], *simulator_.nodes_[to - 1]);
}

void SimNetwork::reset_connections(SimNode& a, SimNode& b) {
  for (const ConnectionPtr& connection : connections_between(&a, &b)) {
    for (int side : {0, 1})
      break_end(*connection, side, "connection reset");
  }
}

// ---- Bytes

void SimNetwork::transmit(const ConnectionPtr& connection, int from_side, Segment segment) {
  End& from = connection->ends[from_side];
  End& to = connection->ends[1 - from_side];
  segment.number = ++from.sent;
  Duration takes = latency(*from.node, *to.node);
  uint64_t rate = simulator_.options().bytes_per_second;
  if (rate > 0) takes += Duration(static_cast<int64_t>(segment.data.size() * 1'000'000'000 / rate));
  TimePoint arrival = std::max(simulator_.now_ + takes, from.last_arrival);
  from.last_arrival = arrival;
  size_t size = segment.data.size();
  later(arrival - simulator_.now_, "arrive", size,
        [this, connection, from_side, segment = std::move(segment)]() mutable {
          arrive(connection, 1 - from_side, std::move(segment));
        });
}

void SimNetwork::arrive(const ConnectionPtr& connection, int to_side, Segment segment) {
  End& from = connection->ends[1 - to_side];
  End& to = connection->ends[to_side];
  bool data_lost = from.lost_after && segment.number > *from.lost_after;
  if (data_lost && segment.kind != Segment::Kind::kReset) return;
  if (!from.stalled.empty() || blocked(*from.node, *to.node)) {
    from.stalled.push_back(std::move(segment));
    return;
  }
  ++from.arrived;
  if (segment.kind == Segment::Kind::kReset) {
    break_end(*connection, to_side, "the other side reset the connection");
    return;
  }
  if (!to.open) {
    // Nobody has that connection any more. A machine without power does not even say so.
    if (!to.vanished || to.node->powered_) answer_with_reset(connection, to_side);
    return;
  }
  if (to.broken) return;
  to.received.append(segment.data);
  if (segment.kind == Segment::Kind::kEnd) to.end_received = true;
  Wait::wake(to.reader);
}

void SimNetwork::answer_with_reset(const ConnectionPtr& connection, int from_side) {
  if (!connection->ends[1 - from_side].open) return;
  transmit(connection, from_side, Segment{Segment::Kind::kReset, {}});
}

void SimNetwork::break_end(Connection& connection, int side, std::string why) {
  End& end = connection.ends[side];
  if (!end.open || end.broken) return;
  end.broken = Error(ErrorCode::kUnavailable, connection.names[1 - side] + ": " + why);
  Wait::wake(end.reader);
  Wait::wake(end.writer);
}

void SimNetwork::close_end(const ConnectionPtr& connection, int side) {
  End& end = connection->ends[side];
  if (!end.open) return;
  end.open = false;
  bool was_broken = end.broken.has_value();
  end.broken = Error(ErrorCode::kCancelled, "the connection was closed on this side");
  Wait::wake(end.reader);
  Wait::wake(end.writer);
  if (was_broken) return;
  // As the kernel does: closing with bytes unread is a reset.
  Segment::Kind kind = end.received.empty() ? Segment::Kind::kEnd : Segment::Kind::kReset;
  end.received.clear();
  transmit(connection, side, Segment{kind, {}});
}

void SimNetwork::consumed(const ConnectionPtr& connection, int side, size_t bytes) {
  SimNode& reader = *connection->ends[side].node;
  SimNode& writer = *connection->ends[1 - side].node;
  // The window opens when the acknowledgement arrives. It may come early through a partition: data cannot.
  later(latency(reader, writer), "window", bytes, [connection, side, bytes] {
    End& sender = connection->ends[1 - side];
    sender.unread_by_peer -= bytes;
    Wait::wake(sender.writer);
  });
}

Task<Result<size_t>> SimNetwork::receive(ConnectionPtr connection, int side, std::span<std::byte> out, bool all) {
  CHECK(!out.empty() || all);
  End& end = connection->ends[side];
  size_t got = 0;
  while (got < out.size()) {
    if (!end.open) co_return *end.broken;
    if (!end.received.empty()) {
      size_t here = end.received.take(out.subspan(got));
      got += here;
      consumed(connection, side, here);
      if (!all) break;
      continue;
    }
    if (end.broken) co_return *end.broken;
    if (end.end_received) co_return Error(ErrorCode::kUnavailable, "the other side closed the connection");
    Wait wait(end.node->executor(), end.reader);
    Result<void> woken = co_await wait.woken();
    (void)woken;
  }
  co_return got;
}

Task<Result<void>> SimNetwork::receive_exact(ConnectionPtr connection, int side, std::span<std::byte> out) {
  Result<size_t> got = co_await receive(std::move(connection), side, out, true);
  if (!got) co_return got.error();
  co_return Result<void>();
}

Task<Result<void>> SimNetwork::send(ConnectionPtr connection, int side, Pieces pieces) {
  End& end = connection->ends[side];
  size_t piece = 0;
  size_t offset = 0;
  while (true) {
    while (piece < pieces.size() && offset == pieces[piece].size()) {
      ++piece;
      offset = 0;
    }
    if (piece == pieces.size()) co_return Result<void>();
    if (end.broken) co_return *end.broken;
    if (end.unread_by_peer >= kWindowBytes) {
      Wait wait(end.node->executor(), end.writer);
      Result<void> woken = co_await wait.woken();
      (void)woken;
      continue;
    }
    // Streams have no borders: now and then the bytes are cut where nobody meant it.
    size_t most = std::min(kWindowBytes - end.unread_by_peer, kSegmentBytesMax);
    if (random_->chance(1, 16)) most = 1 + random_->below(most);
    Segment segment{Segment::Kind::kData, {}};
    while (piece < pieces.size() && segment.data.size() < most) {
      std::span<const std::byte> rest = pieces[piece].subspan(offset);
      rest = rest.first(std::min(rest.size(), most - segment.data.size()));
      segment.data.insert(segment.data.end(), rest.begin(), rest.end());
      offset += rest.size();
      if (offset == pieces[piece].size()) {
        ++piece;
        offset = 0;
      }
    }
    end.unread_by_peer += segment.data.size();
    transmit(connection, side, std::move(segment));
  }
}

// ---- Connecting

Result<std::unique_ptr<Listener>> SimNetwork::listen(SimNode& node, const Address& address) {
  auto listening = std::make_shared<Listening>();
  listening->node = &node;
  listening->address = address;
  if (address.kind == Address::Kind::kTcp && address.port == 0) listening->address.port = next_port_++;
  listening->key =
      node.name() + " " +
      (address.kind == Address::Kind::kUnix ? address.host_or_path : std::to_string(listening->address.port));
  if (!listening_.try_emplace(listening->key, listening).second) {
    return Error(ErrorCode::kBusy, to_string(address) + " is in use");
  }
  return std::make_unique<SimListener>(*this, std::move(listening));
}

void SimNetwork::stop_listening(const std::shared_ptr<Listening>& listening) {
  if (std::exchange(listening->closed, true)) return;
  listening_.erase(listening->key);
  for (Accepted& accepted : std::exchange(listening->queue, {}))
    close_end(accepted.connection, accepted.side);
  Wait::wake(listening->waiter);
}

Task<Result<StreamPtr>> SimNetwork::accept(std::shared_ptr<Listening> listening) {
  while (true) {
    if (listening->closed) co_return Error(ErrorCode::kCancelled, "no longer listening");
    if (!listening->queue.empty()) {
      Accepted accepted = std::move(listening->queue.front());
      listening->queue.pop_front();
      co_return std::make_unique<SimStream>(*this, std::move(accepted.connection), accepted.side);
    }
    Wait wait(listening->node->executor(), listening->waiter);
    Result<void> woken = co_await wait.woken();
    (void)woken;
  }
}

Task<Result<StreamPtr>> SimNetwork::connect(SimNode* node, Address address, TimePoint deadline) {
  std::string name = to_string(address);
  Clock& clock = node->clock();
  if (deadline <= clock.now()) co_return Error(ErrorCode::kTimeout, "connecting to " + name);
  const std::string& host = address.host_or_path;
  bool local = address.kind == Address::Kind::kUnix || host == "127.0.0.1" || host == "localhost" || host == "::1";
  SimNode* target = local ? node : simulator_.find_node(host);
  if (!target) co_return Error(ErrorCode::kUnavailable, name + ": no such host");
  std::string door = address.kind == Address::Kind::kUnix ? host : std::to_string(address.port);

  auto dial = std::make_shared<Dial>(*node, target->name() + " " + door, *target);
  dial->name = name;
  struct GiveUp {
    Dial& dial;
    ~GiveUp() { dial.given_up = true; }
  };
  GiveUp give_up{*dial};
  ScopedTimer timer(clock, deadline,
                    [dial = dial.get()] { dial->done.set(Error(ErrorCode::kTimeout, "connecting to " + dial->name)); });
  later(latency(*node, *target), "knock", 0, [this, dial] { knock(dial); });
  Result<ConnectionPtr> connected = co_await dial->done.future();
  if (!connected) co_return connected.error();
  co_return std::make_unique<SimStream>(*this, std::move(*connected), 0);
}

void SimNetwork::knock(std::shared_ptr<Dial> dial) {
  if (!dial->waiting()) return;
  SimNode& target = dial->target;
  auto found = listening_.find(dial->key);
  bool full = found != listening_.end() && found->second->queue.size() >= kBacklogMax;
  if (full || !target.powered_ || blocked(dial->node, target) || blocked(target, dial->node)) {
    later(kKnockAgain, "knock", 1, [this, dial] { knock(dial); });
    return;
  }
  Duration back = latency(target, dial->node);
  if (found == listening_.end()) {
    later(back, "refuse", 0, [dial] {
      dial->done.set(Error(ErrorCode::kUnavailable, "connecting to " + dial->name + ": connection refused"));
    });
    return;
  }
  auto connection = std::make_shared<Connection>();
  connection->id = next_connection_++;
  connections_.emplace(connection->id, connection);
  connection->ends[0].node = &dial->node;
  connection->ends[0].life = dial->life;
  connection->ends[1].node = &target;
  connection->ends[1].life = target.life_;
  connection->names[0] = dial->node.name() + "#" + std::to_string(connection->id);
  connection->names[1] = dial->name;
  // What the server sends at once must not overtake the answer.
  connection->ends[1].last_arrival = simulator_.now_ + back;
  found->second->queue.push_back(Accepted{connection, 1});
  Wait::wake(found->second->waiter);
  later(back, "connected", connection->id, [this, dial, connection] {
    if (dial->waiting()) {
      dial->done.set(connection);
      return;
    }
    connection->ends[0].open = false;  // whoever knocked has gone
    answer_with_reset(connection, 0);
  });
}

// ---- Crashes

void SimNetwork::cut_short(Connection& connection, int from_side) {
  End& end = connection.ends[from_side];
  end.lost_after = end.arrived + random_->below(end.sent - end.arrived + 1);
  while (!end.stalled.empty() && end.stalled.back().number > *end.lost_after)
    end.stalled.pop_back();
}

void SimNetwork::crash(SimNode& node, bool power) {
  for (auto entry = listening_.begin(); entry != listening_.end();) {
    std::shared_ptr<Listening> listening = entry->second;
    ++entry;
    if (listening->node != &node) continue;
    listening_.erase(listening->key);
    listening->closed = true;
    listening->queue.clear();
  }
  for (const ConnectionPtr& connection : connections_between(&node, nullptr)) {
    for (int side : {0, 1}) {
      End& end = connection->ends[side];
      if (end.node != &node || !end.open) continue;
      bool was_broken = end.broken.has_value();
      bool unread = !end.received.empty();
      end.open = false;
      end.broken = Error(ErrorCode::kCancelled, "crashed");
      end.received.clear();
      if (power) {
        end.vanished = true;
        cut_short(*connection, side);
        later(Simulator::draw(*random_, kGiveUpMin, kGiveUpMax), "give up", connection->id,
              [this, connection, side] { break_end(*connection, 1 - side, "timed out"); });
      } else if (!was_broken && (unread || random_->chance(1, 2))) {
        cut_short(*connection, side);
        transmit(connection, side, Segment{Segment::Kind::kReset, {}});
      } else if (!was_broken) {
        transmit(connection, side, Segment{Segment::Kind::kEnd, {}});
      }
    }
  }
}

void SimNetwork::back_again(SimNode& node) {
  for (const ConnectionPtr& connection : connections_between(&node, nullptr)) {
    for (int side : {0, 1}) {
      if (connection->ends[side].node != &node || !connection->ends[side].vanished) continue;
      // The other side's next probe or retransmission is answered.
      later(Simulator::draw(*random_, 1ms, 1s), "probe", connection->id,
            [this, connection, side] { answer_with_reset(connection, side); });
    }
  }
}

}  // namespace cairn
