// What RPC counts, for servers and clients. Several servers or clients of one World share the numbers.
#pragma once

#include <string>
#include <unordered_map>

#include "common/base/metrics.h"
#include "common/rpc/rpc.h"

namespace cairn {

struct RpcServerMetrics {
  struct OfMethod {
    Counter& requests;
    Counter& errors;
    Histogram& seconds;  // from the request's arrival to its answer
  };
  explicit RpcServerMetrics(Metrics& metrics);
  OfMethod of_method(const std::string& name);

  Metrics& metrics;
  Gauge& connections;
  Gauge& in_flight;
  Counter& received_bytes;
  Counter& sent_bytes;
  Counter& bad_frames;
  Counter& refused;  // connections refused: wrong cluster or protocol, or too many
};

struct RpcClientMetrics {
  explicit RpcClientMetrics(Metrics& metrics);
  void count_error(ErrorCode code);

  Metrics& metrics;
  Gauge& connections;
  Gauge& in_flight;
  Counter& calls;
  Histogram& seconds;  // from call() to its result
  Counter& received_bytes;
  Counter& sent_bytes;
  Counter& failed_connects;
  std::unordered_map<ErrorCode, Counter*> errors;
};

}  // namespace cairn
