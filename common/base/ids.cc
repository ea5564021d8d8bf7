#include "common/base/ids.h"

#include <fmt/format.h>

namespace cairn {

std::string to_string(InodeId id) {
  return fmt::format("{}", id.value);
}
std::string to_string(SessionId id) {
  return fmt::format("{}", id.value);
}
std::string to_string(ChunkId id) {
  return fmt::format("{:016x}", id.value);
}
std::string to_string(ServerId id) {
  return fmt::format("{:016x}", id.value);
}
std::string to_string(MasterId id) {
  return fmt::format("{:016x}", id.value);
}
std::string to_string(ClusterId id) {
  return fmt::format("{:016x}", id.value);
}

}  // namespace cairn
