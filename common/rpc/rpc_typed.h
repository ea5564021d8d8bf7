// RPC with the messages of common/proto instead of bytes: typed_call() for clients, add_handler() for servers.
//
// Loop thread only.
#pragma once

#include <string>
#include <utility>

#include "common/proto/codec.h"
#include "common/proto/methods.h"
#include "common/rpc/rpc.h"

namespace cairn {

// A reply and the raw bytes that come with it.
template <class Reply>
struct Answer {
  Reply reply;
  Payload payload;
  bool in_place = false;  // at a client: the payload is in CallOptions::receive_into, and `payload` is empty
};

// kBadMessage if the answer cannot be decoded; else as RpcClient::call(). The client must outlive the call.
template <class Request>
Task<Result<Answer<typename Method<Request>::Reply>>> typed_call(RpcClient& client, Request request,
                                                                 RpcClient::CallOptions options, Payload payload = {}) {
  using Body = typename Method<Request>::Reply;
  RpcMessage message{.message = encode(request), .payload = std::move(payload)};
  Result<RpcMessage> answer = co_await client.call(Method<Request>::kId, std::move(message), options);
  if (!answer) co_return answer.error();
  Result<Body> reply = decode<Body>(answer->message);
  if (!reply) co_return reply.error().in("the answer to " + std::string(Method<Request>::kName));
  co_return Answer<Body>{std::move(*reply), std::move(answer->payload), answer->in_place};
}

namespace rpc_detail {

inline Payload payload_of(auto&) {
  return {};
}
template <class Reply>
Payload payload_of(Answer<Reply>& answer) {
  return std::move(answer.payload);
}
template <class Reply>
const Reply& reply_of(const Reply& reply) {
  return reply;
}
template <class Reply>
const Reply& reply_of(const Answer<Reply>& answer) {
  return answer.reply;
}

template <class Request, class Object, class Returned>
Task<Result<RpcMessage>> run_handler(Object* object, Task<Result<Returned>> (Object::*function)(Request, RpcRequest),
                                     RpcRequest raw) {
  Result<Request> request = decode<Request>(raw.message);
  if (!request) co_return request.error().in("a request " + std::string(Method<Request>::kName));
  raw.message = {};
  Result<Returned> result = co_await (object->*function)(std::move(*request), std::move(raw));
  if (!result) co_return result.error();
  co_return RpcMessage{.message = encode(reply_of(*result)), .payload = payload_of(*result)};
}

}  // namespace rpc_detail

// The handler of Request is `function`: Task<Result<Reply>> or Task<Result<Answer<Reply>>> f(Request, RpcRequest),
// where RpcRequest has the payload, the deadline and the connection (its message is empty). The object must outlive the
// server's stop().
template <class Request, class Object, class Returned>
void add_handler(RpcServer& server, Object* object, Task<Result<Returned>> (Object::*function)(Request, RpcRequest)) {
  using Body = typename Method<Request>::Reply;
  static_assert(std::is_same_v<Returned, Body> || std::is_same_v<Returned, Answer<Body>>,
                "the handler gives another reply than methods.h says");
  RpcHandler handler = [object, function](RpcRequest raw) {
    return rpc_detail::run_handler<Request, Object, Returned>(object, function, std::move(raw));
  };
  server.handle(Method<Request>::kId, std::string(Method<Request>::kName), std::move(handler),
                Method<Request>::kCallers);
}

}  // namespace cairn
