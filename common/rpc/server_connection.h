// ServerConnection: one connection of an RpcServer. Its requests run as tasks of the server and share it; when it
// breaks they go on to their end and their answers are dropped.
//
// Loop thread only. What handlers keep of it (RpcConnection) may outlive the server.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/rpc/frame_reader.h"
#include "common/rpc/frame_writer.h"
#include "common/rpc/rpc.h"
#include "common/runtime/sync.h"

namespace cairn {

class ServerConnection final : public RpcConnection {
 public:
  ServerConnection(World& world, uint64_t id, std::unique_ptr<Stream> stream);
  ~ServerConnection() override;

  uint64_t id() const override { return id_; }
  std::string peer() const override { return peer_; }
  const Hello& hello() const override { return hello_; }
  bool open() const override { return open_; }
  // Who the other side has proved to be; nothing without TLS.
  const std::optional<PeerIdentity>& identity() const { return identity_; }
  // True once: what is refused to its role is said in the log for the first request only.
  bool first_refusal() { return !std::exchange(role_refused_, true); }

  // Reads the other side's hello. kTimeout when it does not come by `deadline`.
  Task<Result<Hello>> receive_hello(TimePoint deadline);
  FrameReader& in() { return in_; }

  // A request is charged from before its body is read until its handler is done.
  static uint64_t charge_of(const FrameHeader& header);
  bool has_room_for(uint64_t charge, const RpcServerOptions& options) const;
  // Waits until something of what is charged has gone, kSignOfLife at most.
  Task<void> wait_for_room();
  void charge(uint64_t bytes);
  void release(uint64_t bytes);
  uint32_t requests() const { return requests_; }

  void push(FrameHeader header, std::string message, Payload payload = {});
  // The task that writes. Closes the stream at its end.
  Task<void> write();

  void greeted(Hello hello);
  // Says why, writes what is queued, and closes, all that for kLinger at most.
  void close_gently(const Error& why);
  // At once. Nothing arrives or leaves any more.
  void close();
  bool closing() const { return closing_; }
  // Waits for write() to end; then nothing uses the stream, and it is given back.
  Task<void> wait_for_writer();
  // After the server's tasks are gone.
  void drop_stream();

 private:
  static constexpr Duration kLinger = std::chrono::milliseconds(100);
  static constexpr Duration kSignOfLife =
      std::chrono::milliseconds(100);  // well below what a client's keep_alive waits for

  World& world_;
  uint64_t id_;
  std::string peer_;
  std::optional<PeerIdentity> identity_;  // a copy: handlers run on when the stream is gone
  bool role_refused_ = false;
  std::unique_ptr<Stream> stream_;
  FrameReader in_;
  FrameWriter out_;
  Condition room_;
  Condition writer_ended_;
  Hello hello_;
  bool open_ = false;
  bool closing_ = false;
  bool writing_ = true;
  Clock::TimerId linger_timer_ = 0;
  uint64_t charged_bytes_ = 0;
  uint32_t requests_ = 0;
};

}  // namespace cairn
