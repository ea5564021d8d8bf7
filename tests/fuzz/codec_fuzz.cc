// The decoder of every message. The last byte says which type the others are read as (counted in codec.h's list), so
// that they lie aligned.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include "common/base/check.h"
#include "common/proto/codec.h"

namespace cairn {
namespace {

// What is accepted is a proper value: said again it is accepted again and means the same.
template <class T>
void run(std::string_view bytes) {
  Result<T> value = decode<T>(bytes);
  if (!value) {
    CHECK(value.code() == ErrorCode::kBadMessage);
    return;
  }
  const std::string again = encode(*value);
  // Structs of an older sender are shorter than ours, so what is said again may have grown beyond the bound.
  if (again.size() > kMaxMessageBytes) return;
  Result<T> value_again = decode<T>(again);
  CHECK(value_again.has_value());
  CHECK(encode(*value_again) == again);
}

using Run = void (*)(std::string_view bytes);
#define CAIRN_RUN(type) run<type>,
constexpr Run kRuns[] = {CAIRN_MESSAGES(CAIRN_RUN)};

}  // namespace
}  // namespace cairn

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint8_t type = data[size - 1];
  if (type >= std::size(cairn::kRuns)) return 0;
  cairn::kRuns[type]({reinterpret_cast<const char*>(data), size - 1});
  return 0;
}
