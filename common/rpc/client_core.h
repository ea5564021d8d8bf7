// ClientCore: what an RpcClient is made of: its connection, and the calls that wait for it or for an answer.
//
// Loop thread only. Shared by the RpcClient and by the frames of its calls, so that either may go first.
#pragma once

#include <coroutine>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/rpc/deadline_queue.h"
#include "common/rpc/frame_reader.h"
#include "common/rpc/frame_writer.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_metrics.h"
#include "common/runtime/sync.h"

namespace cairn {

class ClientCore;

// One call, from call() to its result. Lives in the frame of call(), which awaits it; a frame that is destroyed
// withdraws it.
struct PendingCall {
  PendingCall(std::shared_ptr<ClientCore> core, MethodId method, RpcMessage request, RpcClient::CallOptions options);
  ~PendingCall();
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;

  bool await_ready() const noexcept { return result.has_value(); }
  void await_suspend(std::coroutine_handle<> handle) noexcept { waiter = handle; }
  void await_resume() const noexcept {}

  enum class State : uint8_t {
    kNew,
    kWaiting,    // for a connection or for memory
    kSent,       // handed to the writer
    kReceiving,  // as kSent, and its payload is being received into receive_into
    kDone,
  };

  std::shared_ptr<ClientCore> core;
  MethodId method;
  RpcMessage request;
  RpcClient::CallOptions options;
  State state = State::kNew;
  bool overdue = false;     // its deadline passed while it was receiving
  bool to_resume = false;   // done, and in the core's list of those to be resumed
  uint64_t id = 0;          // on this connection and all others of the client
  uint64_t bytes = 0;       // of the request, which count as in flight
  uint64_t written_at = 0;  // what the writer's written_bytes() is when the request is out
  TimePoint started;
  std::list<PendingCall*>::iterator place;  // while waiting
  std::optional<Result<RpcMessage>> result;
  std::coroutine_handle<> waiter;
};

class ClientCore : public std::enable_shared_from_this<ClientCore> {
 public:
  ClientCore(World& world, Address address, RpcClientOptions options);
  ~ClientCore();

  void submit(PendingCall& call);
  void withdraw(PendingCall& call);
  void post(MethodId method, RpcMessage request);

  Task<void> stop();
  void drop(const std::string& why);
  // The RpcClient has gone, without stop(): everything ends here and now.
  void abandon();

  const Address& address() const { return address_; }
  bool connected() const { return ready_; }
  const Hello* server_hello() const { return server_hello_ ? &*server_hello_ : nullptr; }
  void set_cluster(ClusterId cluster) { options_.hello.cluster = cluster; }
  void on_disconnect(std::function<void()> callback) { disconnected_ = std::move(callback); }

 private:
  // Shared by the tasks that read and write it, and by connection_ while it is the current one.
  struct Connection {
    Connection(World& world, std::unique_ptr<Stream> stream_in)
        : stream(std::move(stream_in)),
          in(world, *stream),
          out(world.executor(), *stream),
          writer_ended(world.executor()) {}
    std::unique_ptr<Stream> stream;
    FrameReader in;
    FrameWriter out;
    Condition writer_ended;
    bool writing = true;
    bool lost = false;
    // Requests whose calls have ended before they were written: their memory is still in use.
    struct Unwritten {
      uint64_t written_at;
      uint64_t bytes;
    };
    std::vector<Unwritten> unwritten;
  };
  using ConnectionPtr = std::shared_ptr<Connection>;

  // ---- connecting (client_connect.cc)
  bool may_dial() const;
  void dial();
  Task<void> run_connection();
  Task<Result<void>> greet(ConnectionPtr connection, TimePoint deadline);
  Task<Result<Hello>> receive_hello(ConnectionPtr connection);
  void dial_failed(Error error);
  Task<void> write(ConnectionPtr connection);
  // Finds out that the other side has stopped, or is cut off, long before the deadlines of slow calls.
  Task<void> keep_alive(ConnectionPtr connection);
  // Only the first one for a connection counts.
  void lose(Connection& connection, const Error& why);

  // ---- receiving (client_connect.cc)
  Task<Error> receive(ConnectionPtr connection);
  Task<Result<void>> receive_payload(ConnectionPtr connection, FrameHeader header, std::string message);
  Task<Result<void>> receive_in_place(ConnectionPtr connection, FrameHeader header, std::string message);

  // ---- calls (client_core.cc)
  PendingCall* find(uint64_t id) const;
  void send(PendingCall& call, TimePoint now);
  bool has_room_for(const PendingCall& call) const;
  // Sends what waits, as far as there is room.
  void pump();
  void fail_waiting(const Error& why);
  // The call has its result; its waiter is resumed by post().
  void finish(PendingCall& call, Result<RpcMessage> result);
  void leave(PendingCall& call);
  void release_written(Connection& connection);
  void resume_finished();
  void arm_timer();
  void timer_fired();
  void expire(PendingCall& call);
  Error late(const PendingCall& call) const;

  World& world_;
  Address address_;
  RpcClientOptions options_;
  RpcClientMetrics metrics_;
  std::unique_ptr<Random> random_;  // for trace ids: the world's own may be a system call a number

  std::vector<PendingCall*> slots_;  // by the low half of the id
  std::vector<uint32_t> free_slots_;
  uint32_t next_serial_ = 1;         // the high half
  std::list<PendingCall*> waiting_;  // in the order they came
  struct Post {
    MethodId method;
    RpcMessage request;
  };
  std::vector<Post> posts_;  // until there is a connection
  uint64_t in_flight_bytes_ = 0;
  DeadlineQueue deadlines_;
  Clock::TimerId timer_ = 0;
  TimePoint timer_at_ = kNever;
  std::vector<PendingCall*> finished_;  // to be resumed, from next_resume_ on; null: withdrawn
  size_t next_resume_ = 0;
  bool resume_posted_ = false;

  ConnectionPtr connection_;  // also while it says hello
  bool dialing_ = false;
  bool ready_ = false;
  bool stopping_ = false;
  std::optional<Hello> server_hello_;
  TimePoint no_dial_before_{};
  Duration pause_ = Duration::zero();
  std::optional<Error> last_dial_error_;
  std::function<void()> disconnected_;
  std::optional<TaskGroup> tasks_;
};

}  // namespace cairn
