#include "common/base/error.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace cairn {
namespace {

struct CodeInfo {
  ErrorCode code;
  std::string_view name;
  int error_number;
};

// One row a code, in the order of their numbers. What servers tell one another has no errno of its own: EIO.
constexpr auto kCodes = std::to_array<CodeInfo>({
    {ErrorCode::kNotFound, "not_found", ENOENT},
    {ErrorCode::kExists, "exists", EEXIST},
    {ErrorCode::kNotDirectory, "not_directory", ENOTDIR},
    {ErrorCode::kIsDirectory, "is_directory", EISDIR},
    {ErrorCode::kNotEmpty, "not_empty", ENOTEMPTY},
    {ErrorCode::kNameTooLong, "name_too_long", ENAMETOOLONG},
    {ErrorCode::kInvalid, "invalid", EINVAL},
    {ErrorCode::kNoSpace, "no_space", ENOSPC},
    {ErrorCode::kAccess, "access", EACCES},
    {ErrorCode::kPermission, "permission", EPERM},
    {ErrorCode::kTooManyLinks, "too_many_links", EMLINK},
    {ErrorCode::kCrossDevice, "cross_device", EXDEV},
    {ErrorCode::kLoop, "loop", ELOOP},
    {ErrorCode::kStale, "stale", ESTALE},
    {ErrorCode::kIo, "io", EIO},
    {ErrorCode::kNoData, "no_data", ENODATA},
    {ErrorCode::kRange, "range", ERANGE},
    {ErrorCode::kTooBig, "too_big", E2BIG},
    {ErrorCode::kFileTooBig, "file_too_big", EFBIG},
    {ErrorCode::kReadOnly, "read_only", EROFS},
    {ErrorCode::kBusy, "busy", EBUSY},
    {ErrorCode::kNotSupported, "not_supported", EOPNOTSUPP},
    {ErrorCode::kInterrupted, "interrupted", EINTR},
    {ErrorCode::kQuota, "quota", EDQUOT},
    {ErrorCode::kDeadlock, "deadlock", EDEADLK},
    {ErrorCode::kAgain, "again", EAGAIN},
    {ErrorCode::kBadHandle, "bad_handle", EBADF},
    {ErrorCode::kNoMemory, "no_memory", ENOMEM},
    {ErrorCode::kNoLocks, "no_locks", ENOLCK},
    {ErrorCode::kBeyondEnd, "beyond_end", ENXIO},
    {ErrorCode::kTimeout, "timeout", EIO},
    {ErrorCode::kUnavailable, "unavailable", EIO},
    {ErrorCode::kCancelled, "cancelled", EIO},
    {ErrorCode::kNotLeader, "not_leader", EIO},
    {ErrorCode::kSessionEnded, "session_ended", EIO},
    {ErrorCode::kProtocol, "protocol", EIO},
    {ErrorCode::kBadMessage, "bad_message", EIO},
    {ErrorCode::kCorrupt, "corrupt", EIO},
    {ErrorCode::kOldVersion, "old_version", EIO},
    {ErrorCode::kNewVersion, "new_version", EIO},
    {ErrorCode::kMissingWrites, "missing_writes", EIO},
    {ErrorCode::kWrongCluster, "wrong_cluster", EIO},
    {ErrorCode::kUnauthorized, "unauthorized", EIO},
    {ErrorCode::kTooFewReplicas, "too_few_replicas", EIO},
    {ErrorCode::kNotCached, "not_cached", EIO},
    {ErrorCode::kConflict, "conflict", EIO},
    {ErrorCode::kOverload, "overload", EIO},
    {ErrorCode::kWait, "wait", EIO},
});

const CodeInfo* find_code(ErrorCode code) {
  for (const CodeInfo& info : kCodes) {
    if (info.code == code) return &info;
  }
  return nullptr;
}

}  // namespace

std::string_view to_string(ErrorCode code) {
  const CodeInfo* info = find_code(code);
  return info ? info->name : "unknown";
}

int to_errno(ErrorCode code) {
  const CodeInfo* info = find_code(code);
  return info ? info->error_number : EIO;
}

ErrorCode from_errno(int error_number) {
  if (error_number == EIO) return ErrorCode::kIo;  // many codes are shown as EIO; this is the one it stands for
  for (const CodeInfo& info : kCodes) {
    if (info.error_number == error_number) return info.code;
  }
  switch (error_number) {
    case ETIMEDOUT:
      return ErrorCode::kTimeout;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
    case ENOTCONN:
      return ErrorCode::kUnavailable;
    case ECANCELED:
      return ErrorCode::kCancelled;
    case EADDRINUSE:
    case ETXTBSY:
      return ErrorCode::kBusy;
    case ENOSYS:
      return ErrorCode::kNotSupported;
    case EBADMSG:
      return ErrorCode::kCorrupt;
    default:
      return ErrorCode::kIo;
  }
}

ErrorCode error_code_from_wire(uint16_t number) {
  auto code = static_cast<ErrorCode>(number);
  return find_code(code) ? code : ErrorCode::kIo;
}

Error Error::in(std::string_view doing) const {
  std::string text(doing);
  if (!context.empty()) text.append(": ").append(context);
  return Error(code, std::move(text));
}

std::string Error::message() const {
  std::string text(to_string(code));
  if (!context.empty()) text.append(": ").append(context);
  return text;
}

Error errno_error(std::string_view what) {
  int error_number = errno;
  char buffer[128];
  // The GNU version, which may return a text of its own instead of filling the buffer.
  const char* text = strerror_r(error_number, buffer, sizeof buffer);
  return Error(from_errno(error_number), std::string(what) + ": " + text);
}

}  // namespace cairn
