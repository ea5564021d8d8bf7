// SimNetwork: byte streams between simulated nodes, as TCP gives them: in order, with delays, bounded in flight, broken
// by crashes, partitions and resets. Internal to the simulator; programs see it as a Transport.
//
// What a node's kernel does (taking connections and bytes, acknowledging, resetting) goes on while its process is
// paused; that is why arrivals are events of nobody's, which wake the program by events of its own.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/runtime/future.h"
#include "common/runtime/sim_world.h"

namespace cairn {

class SimNetwork {
 public:
  SimNetwork(Simulator& simulator, std::unique_ptr<Random> random);
  ~SimNetwork();

  std::unique_ptr<Transport> make_transport(SimNode& node);

  void block(SimNode& from, SimNode& to);
  void unblock(SimNode& from, SimNode& to);
  void unblock_all();
  void reset_connections(SimNode& a, SimNode& b);
  // The process ends; with `power`, its kernel too.
  void crash(SimNode& node, bool power);
  // The machine has power again: it answers what others still send to its old connections with a reset.
  void back_again(SimNode& node);

 private:
  // What a frame that waits leaves at the place where it will be woken.
  class Wait;
  class ByteQueue;
  struct Segment {
    enum class Kind { kData, kEnd, kReset };
    Kind kind;
    std::vector<std::byte> data;
    uint64_t number = 0;  // of those that the sender sent
  };
  struct End;
  struct Connection;
  struct Dial;
  struct Listening;
  using ConnectionPtr = std::shared_ptr<Connection>;  // shared by both streams and by what is under way
  class SimStream;
  class SimListener;
  class SimTransport;

  // A connection that a listener took, until accept() gets it.
  struct Accepted {
    ConnectionPtr connection;
    int side;
  };

  Duration latency(const SimNode& from, const SimNode& to);
  bool blocked(const SimNode& from, const SimNode& to) const;
  void later(Duration delay, const char* label, uint64_t detail, std::move_only_function<void()> fn);

  void transmit(const ConnectionPtr& connection, int from_side, Segment segment);
  void arrive(const ConnectionPtr& connection, int to_side, Segment segment);
  void close_end(const ConnectionPtr& connection, int side);
  void break_end(Connection& connection, int side, std::string why);
  void answer_with_reset(const ConnectionPtr& connection, int from_side);
  void cut_short(Connection& connection, int from_side);
  void consumed(const ConnectionPtr& connection, int side, size_t bytes);
  void give_up_later(const ConnectionPtr& connection, uint64_t block_number, SimNode& from, SimNode& to);
  std::vector<ConnectionPtr> connections_between(const SimNode* a, const SimNode* b);

  Task<Result<size_t>> receive(ConnectionPtr connection, int side, std::span<std::byte> out, bool all);
  Task<Result<void>> receive_exact(ConnectionPtr connection, int side, std::span<std::byte> out);
  Task<Result<void>> send(ConnectionPtr connection, int side, std::span<const std::span<const std::byte>> pieces);
  Task<Result<std::unique_ptr<Stream>>> connect(SimNode* node, Address address, TimePoint deadline);
  Task<Result<std::unique_ptr<Stream>>> accept(std::shared_ptr<Listening> listening);
  Result<std::unique_ptr<Listener>> listen(SimNode& node, const Address& address);
  void knock(std::shared_ptr<Dial> dial);
  void stop_listening(const std::shared_ptr<Listening>& listening);

  Simulator& simulator_;
  std::unique_ptr<Random> random_;
  std::set<std::pair<uint64_t, uint64_t>> blocked_;  // from, to: indexes of nodes
  uint64_t blocks_ = 0;
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> block_number_;  // of the block in force
  std::map<uint64_t, std::weak_ptr<Connection>> connections_;
  uint64_t next_connection_ = 1;
  std::map<std::string, std::shared_ptr<Listening>> listening_;  // by "node port" or "node path"
  uint16_t next_port_ = 40000;
};

}  // namespace cairn
