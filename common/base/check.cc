#include "common/base/check.h"

#include <cstdlib>
#include <execinfo.h>
#include <fmt/format.h>
#include <unistd.h>

#include "common/base/log.h"

namespace cairn {

void check_failed(const char* condition, const char* file, int line) {
  // A CHECK that fails while this runs must not come back here.
  thread_local bool failing = false;
  if (!failing) {
    failing = true;
    std::string text = fmt::format("at={}:{} condition={}", file, line, quoted(condition));
    write_log(LogLevel::kError, "check.failed", text);
    // The log may go to a file or be off: a person at the terminal shall see it too.
    std::string plain = fmt::format("CHECK failed: {}:{}: {}\n", file, line, condition);
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, plain.data(), plain.size());
    void* frames[64];
    int count = backtrace(frames, 64);
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
  }
  std::abort();
}

}  // namespace cairn
