#include "common/rpc/rpc_metrics.h"

namespace cairn {

RpcServerMetrics::RpcServerMetrics(Metrics& metrics_in)
    : metrics(metrics_in),
      connections(metrics_in.gauge("cairn_rpc_server_connections", "Connections that have said hello")),
      in_flight(metrics_in.gauge("cairn_rpc_server_in_flight", "Requests read and not answered")),
      received_bytes(metrics_in.counter("cairn_rpc_server_received_bytes_total", "Bytes of requests")),
      sent_bytes(metrics_in.counter("cairn_rpc_server_sent_bytes_total", "Bytes of answers")),
      bad_frames(metrics_in.counter("cairn_rpc_server_bad_frames_total", "Connections closed for what came over them")),
      refused(metrics_in.counter("cairn_rpc_server_refused_total", "Connections refused at hello")) {}

RpcServerMetrics::OfMethod RpcServerMetrics::of_method(const std::string& name) {
  Labels labels{{"method", name}};
  return OfMethod{
      .requests = metrics.counter("cairn_rpc_server_requests_total", "Requests by method", labels),
      .errors = metrics.counter("cairn_rpc_server_errors_total", "Requests answered with an error", labels),
      .seconds = metrics.histogram("cairn_rpc_server_request_seconds", "From a request's arrival to its answer",
                                   latency_bounds_seconds(), labels),
  };
}

RpcClientMetrics::RpcClientMetrics(Metrics& metrics_in)
    : metrics(metrics_in),
      connections(metrics_in.gauge("cairn_rpc_client_connections", "Connections to servers")),
      in_flight(metrics_in.gauge("cairn_rpc_client_in_flight", "Calls without a result yet")),
      calls(metrics_in.counter("cairn_rpc_client_calls_total", "Calls")),
      seconds(
          metrics_in.histogram("cairn_rpc_client_call_seconds", "From a call to its result", latency_bounds_seconds())),
      received_bytes(metrics_in.counter("cairn_rpc_client_received_bytes_total", "Bytes of answers")),
      sent_bytes(metrics_in.counter("cairn_rpc_client_sent_bytes_total", "Bytes of requests")),
      failed_connects(metrics_in.counter("cairn_rpc_client_failed_connects_total", "Attempts to connect that failed")) {
}

void RpcClientMetrics::count_error(ErrorCode code) {
  Counter*& counter = errors[code];
  if (!counter) {
    counter = &metrics.counter("cairn_rpc_client_errors_total", "Calls that ended with an error, by its code",
                               {{"code", std::string(to_string(code))}});
  }
  counter->add();
}

}  // namespace cairn
