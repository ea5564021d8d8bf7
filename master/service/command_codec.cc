#include "master/service/command_codec.h"

#include <type_traits>
#include <utility>

#include "common/base/bytes.h"
#include "common/proto/codec.h"

namespace cairn {

namespace {

constexpr uint8_t kFormatVersion = 1;
constexpr uint64_t kListMax = 1 << 20;

// One function names a command's fields, for both directions: `visit(io, value)`. In an encoder `value` is not changed.
template <class Io>
void visit(Io& io, CapabilityKey& v) {
  io(v.id, v.key);
}
template <class Io>
void visit(Io& io, MakeCluster& v) {
  io(v.cluster, v.expected_servers, v.default_goal, v.default_min_copies, v.session_ms, v.delete_grace_ms, v.root_mode,
     v.root_uid, v.root_gid);
}
template <class Io>
void visit(Io& io, RotateKeys& v) {
  io(v.key);
}
template <class Io>
void visit(Io&, Tick&) {}
template <class Io>
void visit(Io& io, OpenSession& v) {
  io(v.host, v.mountpoint, v.program);
}
template <class Io>
void visit(Io& io, RenewSessions& v) {
  io(v.sessions);
}
template <class Io>
void visit(Io& io, EndSession& v) {
  io(v.session);
}
template <class Io>
void visit(Io& io, RegisterServer& v) {
  io(v.server, v.address, v.domain, v.program, v.boot_id, v.incarnation);
}
template <class Io>
void visit(Io& io, RemoveServer& v) {
  io(v.server);
}
template <class Io>
void visit(Io& io, ReplicaSpec& v) {
  io(v.server, v.state, v.incarnation);
}
template <class Io>
void visit(Io& io, BeginRaise& v) {
  io(v.chunk, v.expected_version, v.expected_state, v.expected_pending, v.session, v.survivors, v.joiners);
}
template <class Io>
void visit(Io& io, FinishRaise::Seal& v) {
  io(v.length, v.allocated_bytes);
}
template <class Io>
void visit(Io& io, FinishRaise& v) {
  io(v.chunk, v.version, v.replicas, v.seal);
}
template <class Io>
void visit(Io& io, AbandonRaise& v) {
  io(v.chunk, v.version);
}
template <class Io>
void visit(Io& io, SealChunk& v) {
  io(v.chunk, v.version, v.length, v.allocated_bytes);
}
template <class Io>
void visit(Io& io, SetReplicas& v) {
  io(v.chunk, v.expected_version, v.replicas);
}
template <class Io>
void visit(Io& io, MarkReplica& v) {
  io(v.chunk, v.expected_version, v.server, v.expected, v.state, v.incarnation);
}
template <class Io>
void visit(Io& io, MarkReplicas::Item& v) {
  io(v.chunk, v.version);
}
template <class Io>
void visit(Io& io, MarkReplicas& v) {
  io(v.server, v.state, v.chunks);
}
template <class Io>
void visit(Io& io, AddGarbage::Item& v) {
  io(v.chunk, v.version);
}
template <class Io>
void visit(Io& io, AddGarbage& v) {
  io(v.server, v.chunks);
}
template <class Io>
void visit(Io& io, RemoveGarbage& v) {
  io(v.server, v.chunks);
}

template <class Io>
void visit(Io& io, BreakLocks& v) {
  io(v.inode);
}
template <class Io>
void visit(Io& io, DropServer& v) {
  io(v.server);
}
template <class Io>
void visit(Io& io, CloseInodes& v) {
  io(v.session, v.inodes);
}
template <class Io>
void visit(Io& io, BeginRestore& v) {
  io(v.source, v.taken_ns);
}
template <class Io>
void visit(Io& io, AdoptReplicas::Item& v) {
  io(v.chunk, v.version, v.state, v.complete, v.verified, v.length);
}
template <class Io>
void visit(Io& io, AdoptReplicas& v) {
  io(v.server, v.incarnation, v.chunks);
}
template <class Io>
void visit(Io&, BeginKeptDump&) {}
template <class Io>
void visit(Io& io, GrantKeptDumpChunk& v) {
  io(v.inode, v.servers);
}
template <class Io>
void visit(Io& io, FinishKeptDump& v) {
  io(v.inode, v.size);
}
template <class Io>
void visit(Io&, SettleRestore&) {}
template <class Io>
void visit(Io&, AcceptRestore&) {}
template <class Io>
void visit(Io& io, AttachFound& v) {
  io(v.inode, v.index, v.chunk, v.length, v.allocated_bytes);
}

class Encoder {
 public:
  template <class... T>
  void operator()(T&... values) {
    (one(values), ...);
  }
  std::string take() { return out_.take(); }

 private:
  template <class T>
  void one(T& v) {
    if constexpr (std::is_enum_v<T>)
      out_.u8(static_cast<uint8_t>(v));
    else if constexpr (std::is_integral_v<T>)
      out_.varint(v);
    else
      visit(*this, v);
  }
  template <class Tag>
  void one(Id<Tag>& v) {
    out_.varint(v.value);
  }
  void one(std::string& v) { out_.string(v); }
  template <class T>
  void one(std::vector<T>& v) {
    out_.varint(v.size());
    for (T& item : v)
      one(item);
  }
  template <class T>
  void one(std::optional<T>& v) {
    out_.u8(v.has_value());
    if (v) one(*v);
  }
  ByteWriter out_;
};

class Decoder {
 public:
  explicit Decoder(std::string_view in) : in_(in) {}
  template <class... T>
  void operator()(T&... values) {
    (one(values), ...);
  }
  Result<void> finish() { return bad_ ? Result<void>(Error(ErrorCode::kCorrupt, "command")) : in_.finish("command"); }

 private:
  template <class T>
  void one(T& v) {
    if constexpr (std::is_enum_v<T>) {
      v = static_cast<T>(in_.u8());
    } else if constexpr (std::is_integral_v<T>) {
      uint64_t wide = in_.varint();
      v = static_cast<T>(wide);
      if (v != wide) bad_ = true;
    } else {
      visit(*this, v);
    }
  }
  template <class Tag>
  void one(Id<Tag>& v) {
    v = Id<Tag>(in_.varint());
  }
  void one(std::string& v) { v = std::string(in_.string()); }
  template <class T>
  void one(std::vector<T>& v) {
    uint64_t count = in_.varint();
    if (count > kListMax || count > in_.remaining()) {  // an item takes at least a byte
      bad_ = true;
      return;
    }
    v.resize(count);
    for (T& item : v)
      one(item);
  }
  template <class T>
  void one(std::optional<T>& v) {
    if (in_.u8() != 0) one(v.emplace(T{}));
  }
  ByteReader in_;
  bool bad_ = false;
};

template <size_t kIndex = 0>
Result<Command> decode_alternative(size_t index, std::string_view bytes) {
  if constexpr (kIndex == std::variant_size_v<Command>) {
    return Error(ErrorCode::kCorrupt, "command number " + std::to_string(index));
  } else {
    if (index != kIndex) return decode_alternative<kIndex + 1>(index, bytes);
    using T = std::variant_alternative_t<kIndex, Command>;
    if constexpr (std::is_same_v<T, SessionMutation>) {
      Result<MutateRequest> mutation = decode<MutateRequest>(bytes);
      if (!mutation) return Error(ErrorCode::kCorrupt, "mutation: " + mutation.error().context);
      return Command(std::move(*mutation));
    } else {
      T value{};
      Decoder decoder(bytes);
      visit(decoder, value);
      Result<void> read = decoder.finish();
      if (!read) return read.error();
      return Command(std::move(value));
    }
  }
}

}  // namespace

// The number of a command is its place in the variant: new ones go to the end (docs/formats.md).
std::string encode_command(const Command& command) {
  std::string out;
  out.push_back(static_cast<char>(kFormatVersion));
  out.push_back(static_cast<char>(command.index()));
  std::visit(
      [&]<class T>(const T& value) {
        if constexpr (std::is_same_v<T, SessionMutation>) {
          out += encode(value);
        } else {
          Encoder encoder;
          visit(encoder, const_cast<T&>(value));  // an Encoder only reads
          out += encoder.take();
        }
      },
      command);
  return out;
}

Result<Command> decode_command(std::string_view bytes) {
  if (bytes.size() < 2) return Error(ErrorCode::kCorrupt, "command cut short");
  if (static_cast<uint8_t>(bytes[0]) != kFormatVersion) {
    return Error(ErrorCode::kCorrupt,
                 "command of format " + std::to_string(static_cast<uint8_t>(bytes[0])) + ", known: 1");
  }
  return decode_alternative<>(static_cast<uint8_t>(bytes[1]), bytes.substr(2));
}

}  // namespace cairn
