#include "chunkserver/agent/server_state.h"

#include <algorithm>
#include <optional>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"

namespace cairn {

namespace {

constexpr uint8_t kFormat = 1;

std::string path_in(const std::string& folder) {
  return folder + "/STATE";
}

}  // namespace

std::string encode_server_state(const ServerState& state) {
  ByteWriter out;
  out.u8(kFormat);
  out.u64(state.incarnation);
  out.u64(state.masters.term);
  out.u64(state.masters.log_time_ms);
  out.u32(crc32c(std::string_view(out.str())));
  return out.take();
}

Result<ServerState> decode_server_state(std::string_view bytes) {
  ByteReader in(bytes);
  uint8_t format = in.u8();
  if (in.ok() && format != kFormat) {
    return Error(ErrorCode::kNotSupported, "STATE has format " + std::to_string(format));
  }
  ServerState state;
  state.incarnation = in.u64();
  state.masters.term = in.u64();
  state.masters.log_time_ms = in.u64();
  uint32_t checksum = in.u32();
  Result<void> whole = in.finish("STATE");
  if (!whole) return whole.error();
  if (checksum != crc32c(bytes.substr(0, bytes.size() - sizeof checksum))) {
    return Error(ErrorCode::kCorrupt, "STATE: wrong checksum");
  }
  return state;
}

Result<ServerState> load_server_state(Disk& disk, const std::vector<std::string>& folders) {
  ServerState newest;
  bool found = false;
  std::optional<Error> failure;
  for (const std::string& folder : folders) {
    Result<std::string> bytes = read_file(disk, path_in(folder));
    if (bytes.failed_with(ErrorCode::kNotFound)) continue;
    Result<ServerState> state = bytes ? decode_server_state(*bytes) : Result<ServerState>(bytes.error());
    if (!state) {
      log_warning("server.state_unreadable", "folder={} error={}", folder, quoted(state.error().message()));
      failure = state.error().in(folder);
      continue;
    }
    found = true;
    newest.incarnation = std::max(newest.incarnation, state->incarnation);
    newest.masters.term = std::max(newest.masters.term, state->masters.term);
    newest.masters.log_time_ms = std::max(newest.masters.log_time_ms, state->masters.log_time_ms);
  }
  if (!found && failure) return *failure;
  return newest;
}

Result<void> save_server_state(Disk& disk, const std::vector<std::string>& folders, const ServerState& state) {
  std::string bytes = encode_server_state(state);
  Result<void> result = Error(ErrorCode::kInvalid, "no data directory");
  bool saved = false;
  for (const std::string& folder : folders) {
    Result<void> written = write_file(disk, path_in(folder), bytes);
    saved = saved || written.has_value();
    if (!written) {
      log_warning("server.state_not_written", "folder={} error={}", folder, quoted(written.error().message()));
      result = written.error().in(folder);
    }
  }
  if (saved) return {};
  return result;
}

}  // namespace cairn
