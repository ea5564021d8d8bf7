// Typed ids: passing a ChunkId where an InodeId belongs does not compile. Zero means "none" for each of them.
#pragma once

#include <compare>
#include <cstdint>
#include <fmt/core.h>
#include <functional>
#include <string>

namespace cairn {

template <class Tag>
struct Id {
  uint64_t value = 0;

  constexpr Id() = default;
  constexpr explicit Id(uint64_t value_in) : value(value_in) {}
  constexpr explicit operator bool() const { return value != 0; }
  constexpr auto operator<=>(const Id&) const = default;
};

using InodeId = Id<struct InodeTag>;      // also the FUSE nodeid; never used again
using ChunkId = Id<struct ChunkTag>;      // never used again
using SessionId = Id<struct SessionTag>;  // one mount, or one command, with the master
using ServerId = Id<struct ServerTag>;    // a chunkserver, random, kept in its data directories
using MasterId = Id<struct MasterTag>;    // a member of the masters' group, random
using ClusterId = Id<struct ClusterTag>;  // made once, when the cluster is

inline constexpr InodeId kRootInode{1};

// Decimal for inodes and sessions, 16 hexadecimal digits for the others: how people see ids everywhere.
std::string to_string(InodeId id);
std::string to_string(SessionId id);
std::string to_string(ChunkId id);
std::string to_string(ServerId id);
std::string to_string(MasterId id);
std::string to_string(ClusterId id);

}  // namespace cairn

// "{}" for fmt and logging. (fmt 9.1 looks for format_as only for enums.)
template <class Tag>
struct fmt::formatter<cairn::Id<Tag>> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(cairn::Id<Tag> id, Context& context) const {
    auto out = context.out();
    for (char c : to_string(id))
      *out++ = c;
    return out;
  }
};

template <class Tag>
struct std::hash<cairn::Id<Tag>> {
  size_t operator()(cairn::Id<Tag> id) const noexcept {
    // Fibonacci hashing: ids are often consecutive.
    return static_cast<size_t>(id.value * 0x9E3779B97F4A7C15ull);
  }
};
