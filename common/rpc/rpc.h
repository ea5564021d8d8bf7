// RPC between Cairn's parts: requests and answers in frames (frame.h) over a Stream. The message is opaque bytes here (Cap'n Proto, made by
// common/proto/codec.h); the payload is raw file data beside it, received straight into one page-aligned Buffer.
//
// Every call has a deadline and ends: with an answer, with the server's error, or with kTimeout / kUnavailable (the outcome is then unknown; retry
// with the same ids inside the message where acting twice would matter). Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/proto/callers.h"
#include "common/runtime/task.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"

namespace cairn {

using MethodId = uint16_t;
// Answered by every RpcServer by itself, with nothing.
inline constexpr MethodId kPingMethod = 0xFFFF;

// What everybody says first on a connection. The other side refuses with kWrongCluster or kProtocol and names both sides' values.
struct Hello {
  ClusterId cluster;        // zero: not known yet (a command that asks); accepted by servers
  uint16_t protocol_min = 1;
  uint16_t protocol_max = 1;
  std::string program;      // "cairn-master 0.1.0", for logs
};

struct RpcMessage {
  std::string message;  // Cap'n Proto, flat words
  Payload payload;
  bool in_place = false;  // of an answer: its payload is in CallOptions::receive_into, and `payload` is empty
};

// A request as a handler gets it.
struct RpcRequest {
  MethodId method = 0;
  uint64_t trace_id = 0;    // travels with everything that the request causes
  TimePoint deadline;       // by the server's own clock: arrival + what the client had left
  std::string message;
  Buffer payload;
  std::shared_ptr<class RpcConnection> connection;  // shared: requests of one connection outlive it
};

// The server's end of one connection, as handlers see it. Handlers may keep per-connection state by id().
class RpcConnection {
 public:
  virtual ~RpcConnection() = default;
  virtual uint64_t id() const = 0;
  virtual std::string peer() const = 0;
  virtual const Hello& hello() const = 0;
  virtual bool open() const = 0;
};

using RpcHandler = std::function<Task<Result<RpcMessage>>(RpcRequest)>;

struct RpcServerOptions {
  Hello hello;
  uint64_t memory_per_connection_bytes = 64ull << 20;  // requests read but not answered; beyond it the connection is not read
  uint32_t requests_per_connection_max = 1024;         // likewise
  uint32_t connections_max = 4096;                     // further ones are closed at once
  Duration hello_timeout = std::chrono::seconds(5);
};

class RpcServer {
 public:
  RpcServer(World& world, RpcServerOptions options);
  ~RpcServer();
  // Before listen(). A connection whose other side has proved a role that is not of `callers` is answered kUnauthorized.
  void handle(MethodId method, std::string name, RpcHandler handler, Callers callers = Callers::kAnybody);
  // Called when a connection that has said hello is gone; its handlers may still run. Must not destroy the server.
  void on_disconnect(std::function<void(RpcConnection&)> callback);
  // For connections to come: a server that learns later which cluster it belongs to.
  void set_cluster(ClusterId cluster);
  // May be called for several addresses. Gives the address with the port chosen.
  Result<Address> listen(const Address& address);
  // Stops accepting, closes connections, waits for handlers.
  Task<void> stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct RpcClientOptions {
  Hello hello;
  Duration connect_timeout = std::chrono::seconds(2);
  uint64_t memory_in_flight_bytes = 64ull << 20;  // payloads sent or waiting to be; further calls wait
  Duration reconnect_pause_min = std::chrono::milliseconds(20);  // doubles to the maximum while nobody answers
  Duration reconnect_pause_max = std::chrono::milliseconds(500);
  // While calls wait for an answer the server is asked so often whether it is there; if nothing at all comes from it for three times that, the
  // connection is lost and its calls fail with kUnavailable. Zero: never.
  Duration keep_alive = std::chrono::milliseconds(500);
};

// Calls one server. Connects when first used and again after a failure; a broken connection fails the calls in flight at once with
// kUnavailable. After a failed connect, calls fail at once until the pause is over (no storm of dials), with the address in the context.
class RpcClient {
 public:
  RpcClient(World& world, Address address, RpcClientOptions options);
  ~RpcClient();

  struct CallOptions {
    TimePoint deadline;
    uint64_t trace_id = 0;
    // If the answer's payload has exactly this size it is received here instead of into a new Buffer. Must stay until the call returns,
    // and is not written after that: a call whose deadline passes while its payload is arriving returns when the next bytes come (the rest
    // is dropped), and if none come for kReceiveGrace the connection is broken.
    std::span<std::byte> receive_into = {};
    // How large the answer's payload may get, if known: the server sets that much memory aside. receive_into says it too.
    uint32_t answer_bytes_hint = 0;
  };
  static constexpr Duration kReceiveGrace = std::chrono::milliseconds(250);
  Task<Result<RpcMessage>> call(MethodId method, RpcMessage request, CallOptions options);
  // Sends a request whose answer nobody wants, best effort: it is dropped when the connection fails, and when more waits to be
  // written than memory_in_flight_bytes. While the connection is being made up to kPostsWaiting of them wait for it.
  static constexpr size_t kPostsWaiting = 64;
  void post(MethodId method, RpcMessage request);

  const Address& address() const;
  bool connected() const;
  // For connections to come.
  void set_cluster(ClusterId cluster);
  // Called whenever the connection is lost (also by a clean close of the other side).
  void on_disconnect(std::function<void()> callback);
  // Calls in flight end with kUnavailable, at once, and the connection is closed; the next call makes a new one.
  void drop(const std::string& why);
  // The other side's Hello, once connected.
  const Hello* server_hello() const;
  // Calls in flight and further ones end with kCancelled, at once. A dial under way is waited for: connect_timeout at most.
  Task<void> stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn
