// The errors that Cairn's parts tell one another, and what they are as errno.
//
// A code is stable: its number goes over the wire and into replies kept in the log, so numbers are never
// used again for something else. An unknown number that arrives is treated as kIo.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace cairn {

enum class ErrorCode : uint16_t {
  // What a file operation may answer; each has the errno of its name.
  kNotFound = 1,         // ENOENT
  kExists = 2,           // EEXIST
  kNotDirectory = 3,     // ENOTDIR
  kIsDirectory = 4,      // EISDIR
  kNotEmpty = 5,         // ENOTEMPTY
  kNameTooLong = 6,      // ENAMETOOLONG
  kInvalid = 7,          // EINVAL
  kNoSpace = 8,          // ENOSPC
  kAccess = 9,           // EACCES
  kPermission = 10,      // EPERM
  kTooManyLinks = 11,    // EMLINK
  kCrossDevice = 12,     // EXDEV
  kLoop = 13,            // ELOOP
  kStale = 14,           // ESTALE
  kIo = 15,              // EIO
  kNoData = 16,          // ENODATA
  kRange = 17,           // ERANGE
  kTooBig = 18,          // E2BIG
  kFileTooBig = 19,      // EFBIG
  kReadOnly = 20,        // EROFS
  kBusy = 21,            // EBUSY
  kNotSupported = 22,    // EOPNOTSUPP
  kInterrupted = 23,     // EINTR
  kQuota = 24,           // EDQUOT
  kDeadlock = 25,        // EDEADLK
  kAgain = 26,           // EAGAIN
  kBadHandle = 27,       // EBADF
  kNoMemory = 28,        // ENOMEM
  kNoLocks = 29,         // ENOLCK
  kBeyondEnd = 30,       // ENXIO: lseek finds nothing at or behind the offset

  // What servers and the runtime tell one another; applications see EIO unless noted.
  kTimeout = 100,        // a deadline passed; the outcome is unknown
  kUnavailable = 101,    // nobody answers there, or the connection broke; the outcome is unknown
  kCancelled = 102,      // the waiting side is shutting down
  kNotLeader = 103,      // another master leads; the context holds "id address term" when known
  kSessionEnded = 104,   // the master no longer knows the session; what it held is lost
  kProtocol = 105,       // versions of the protocol do not meet
  kBadMessage = 106,     // what arrived cannot be decoded
  kCorrupt = 107,        // a checksum does not match, on disk or on the way
  kOldVersion = 108,     // the chunk's version at the server is newer than the one named
  kNewVersion = 109,     // the chunk's version at the server is older than the one named
  kMissingWrites = 110,  // the replica cannot show the sequence that is asked for
  kWrongCluster = 111,   // the other side belongs to another cluster
  kUnauthorized = 112,   // no capability, a bad one, or one that ran out; a role that may not ask this; EACCES is never made of it
  kTooFewReplicas = 113, // fewer than min_copies servers can take part
  kNotCached = 114,      // a lookup that may only use memory would have to read the disk
  kConflict = 115,       // a compare-and-swap in the log met another value
  kOverload = 116,       // a bound on memory or on requests in flight is reached; try again
  kWait = 117,           // somebody else holds what is asked for
};

// Short stable name ("not_found"), for logs and JSON.
std::string_view to_string(ErrorCode code);

// The errno that an application gets for this code.
int to_errno(ErrorCode code);

// The code for an errno of a system call; unknown ones become kIo.
ErrorCode from_errno(int error_number);

// A code that came over the wire or from disk; an unknown number becomes kIo.
ErrorCode error_code_from_wire(uint16_t number);

// An error is a stable code and a short context: what was touched, for a person who reads the log.
struct Error {
  ErrorCode code;
  std::string context;

  Error(ErrorCode code_in, std::string context_in = {}) : code(code_in), context(std::move(context_in)) {}

  // The same error with what the caller was doing put in front: "opening x: disk full".
  Error in(std::string_view doing) const;
  // "no_space: opening x"
  std::string message() const;
  int as_errno() const { return to_errno(code); }
};

// Error of the system call that just failed, from errno.
Error errno_error(std::string_view what);

}  // namespace cairn
