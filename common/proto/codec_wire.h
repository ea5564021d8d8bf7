// Inside of the codec: how one plain value becomes one Cap'n Proto message. Only the codec's own sources include this.
//
// For each struct T of a schema there are two functions, found by overloading:
//
//   void write(wire::T::Builder out, const T& in);
//   void read(wire::T::Reader in, T& out);
//
// and the ones below for what they are made of, so that a field is one line: out.setName(wire_of(in.name)),
// read(in.getName(), out.name). A read() that meets what is not allowed calls refuse(); no other errors leave it than
// that and kj's own exceptions.
#pragma once

#include <capnp/message.h>
#include <capnp/schema.h>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/proto/codec.h"
#include "common/proto/types.capnp.h"

namespace cairn {

// Ends the decoding of a message; decode() gives kBadMessage with these words.
[[noreturn]] void refuse(const char* why);

// ---------------------------------------------------------------- whole messages

// Memory that this thread's messages are built in; all zeros between two of them.
kj::ArrayPtr<capnp::word> scratch_segment();
// The message in the form that goes out: table of segments, segments.
std::string flatten(capnp::MessageBuilder& message);

template <class Wire, class T>
std::string encode_as(const T& value) {
  capnp::MallocMessageBuilder message(scratch_segment());
  write(message.initRoot<Wire>(), value);
  return flatten(message);
}

using ReadRoot = void (*)(capnp::MessageReader& message, void* value);
Result<void> read_message(std::string_view bytes, const char* type, ReadRoot read_root, void* value);

template <class Wire, class T>
Result<T> decode_as(std::string_view bytes, const char* type) {
  Result<T> value(std::in_place);
  ReadRoot read_root = [](capnp::MessageReader& message, void* out) {
    read(message.getRoot<Wire>(), *static_cast<T*>(out));
  };
  Result<void> done = read_message(bytes, type, read_root, &*value);
  if (!done) value = std::move(done.error());
  return value;
}

// Defines encode() and decode() of a message whose plain and wire types have one name.
#define CAIRN_DEFINE_CODEC(type)                      \
  template <>                                         \
  std::string encode(const type& value) {             \
    return encode_as<wire::type>(value);              \
  }                                                   \
  template <>                                         \
  Result<type> decode(std::string_view bytes) {       \
    return decode_as<wire::type, type>(bytes, #type); \
  }

// ---------------------------------------------------------------- numbers, ids, strings

// Both types are the same: a field cannot lose bits on its way.
template <std::integral T>
void read(T in, T& out) {
  out = in;
}

template <class Tag>
uint64_t wire_of(Id<Tag> id) {
  return id.value;
}
template <class Tag>
void read(uint64_t in, Id<Tag>& out) {
  out.value = in;
}

// Sets a field of Data as well as one of Text.
struct StringOnWire {
  const std::string& string;
  operator capnp::Data::Reader() const { return {reinterpret_cast<const kj::byte*>(string.data()), string.size()}; }
  operator capnp::Text::Reader() const { return {string.c_str(), string.size()}; }
};
inline StringOnWire wire_of(const std::string& string) {
  return {string};
}
inline uint32_t wire_of(uint32_t number) {
  return number;
}
inline uint64_t wire_of(uint64_t number) {
  return number;
}

inline void read_string(const char* data, size_t size, std::string& out) {
  if (size > kMaxStringBytes) refuse("a string is too long");
  out.assign(data, size);
}
inline void read(capnp::Data::Reader in, std::string& out) {
  read_string(in.asChars().begin(), in.size(), out);
}
inline void read(capnp::Text::Reader in, std::string& out) {
  read_string(in.begin(), in.size(), out);
}

// ---------------------------------------------------------------- optionals and lists

// A value that counts when its flag is set.
template <class T>
void read(bool said, T in, std::optional<T>& out) {
  if (said) out = in;
}

// Takes what initX() wants: write(out.initChunks(count(in.chunks)), in.chunks).
template <class T>
unsigned count(const std::vector<T>& list) {
  return static_cast<unsigned>(list.size());
}

template <class ListBuilder, class T>
void write(ListBuilder out, const std::vector<T>& in) {
  for (unsigned i = 0; i < out.size(); i++) {
    if constexpr (requires { out.set(i, wire_of(in[i])); }) {
      out.set(i, wire_of(in[i]));
    } else if constexpr (requires { out.init(i, count(in[i])); }) {
      write(out.init(i, count(in[i])), in[i]);
    } else {
      write(out[i], in[i]);
    }
  }
}

template <class ListReader, class T>
void read(ListReader in, std::vector<T>& out, uint32_t items_max = kMaxListItems) {
  if (in.size() > items_max) refuse("a list is too long");
  out.clear();
  out.reserve(in.size());
  for (unsigned i = 0; i < in.size(); i++)
    read(in[i], out.emplace_back());
}

// ---------------------------------------------------------------- enums, and structs of types.capnp

// Enumerants have the numbers of the plain enum, which has no 0.
wire::FileType wire_of(FileType type);
wire::ChunkState wire_of(ChunkState state);
void read(wire::FileType in, FileType& out);
void read(wire::ChunkState in, ChunkState& out);

void write(wire::Attributes::Builder out, const Attributes& in);
void read(wire::Attributes::Reader in, Attributes& out);
void write(wire::Lease::Builder out, const Lease& in);
void read(wire::Lease::Reader in, Lease& out);
void write(wire::ReplicaAddress::Builder out, const ReplicaAddress& in);
void read(wire::ReplicaAddress::Reader in, ReplicaAddress& out);
void write(wire::ReplicaStatus::Builder out, const ReplicaStatus& in);
void read(wire::ReplicaStatus::Reader in, ReplicaStatus& out);
void write(wire::ChunkGrant::Builder out, const ChunkGrant& in);
void read(wire::ChunkGrant::Reader in, ChunkGrant& out);

}  // namespace cairn
