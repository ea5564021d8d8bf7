#include "common/base/log.h"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

namespace cairn {
namespace {

// Writes each line with one write(2) to an appended file: nothing is lost when the process dies, lines of several
// processes do not mix, and nothing can throw. Ours, because spdlog's file sinks buffer and cannot reopen.
class DescriptorSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit DescriptorSink(std::string path) : path_(std::move(path)) { reopen(); }
  ~DescriptorSink() override { close_file(); }

  void reopen() {
    std::scoped_lock lock(mutex_);
    if (path_.empty()) return;
    int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    // A file that can't be opened: go on with the old one, or with standard error.
    if (fd < 0) return;
    close_file();
    fd_ = fd;
  }

 private:
  void close_file() {
    if (fd_ != STDERR_FILENO) ::close(fd_);
    fd_ = STDERR_FILENO;
  }

  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    const char* next = line.data();
    size_t left = line.size();
    while (left > 0) {
      ssize_t written = ::write(fd_, next, left);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return;  // a log that cannot be written must not stop the program
      next += written;
      left -= static_cast<size_t>(written);
    }
  }
  void flush_() override {}

  std::string path_;
  int fd_ = STDERR_FILENO;
};

// Lines are for people and for grep: "2024-05-01T12:00:00.123456Z info cairn-master event key=value".
std::unique_ptr<spdlog::formatter> make_formatter() {
  return std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%fZ %l %n %v", spdlog::pattern_time_type::utc,
                                                     "\n");
}

struct Logging {
  std::shared_ptr<DescriptorSink> sink;
  std::shared_ptr<spdlog::logger> logger;
};

std::shared_ptr<Logging> make_logging(std::string_view program, std::string_view file) {
  auto logging = std::make_shared<Logging>();
  logging->sink = std::make_shared<DescriptorSink>(std::string(file));
  logging->sink->set_formatter(make_formatter());
  logging->logger = std::make_shared<spdlog::logger>(std::string(program), logging->sink);
  logging->logger->set_level(spdlog::level::trace);  // our own level decides
  return logging;
}

// Warnings and errors of a program that has not started logging, or of a test.
std::atomic<LogLevel> current_level = LogLevel::kWarning;

// Never destroyed: threads may log while the process ends.
std::mutex& state_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}
std::shared_ptr<Logging>& state() {
  static auto* logging = new std::shared_ptr<Logging>(make_logging("cairn", {}));
  return *logging;
}
std::shared_ptr<Logging> current() {
  std::scoped_lock lock(state_mutex());
  return state();
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    default:
      return spdlog::level::err;
  }
}

void append_escaped(std::string& out, char c) {
  static constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '\n':
      out += "\\n";
      break;
    case '\r':
      out += "\\r";
      break;
    case '\t':
      out += "\\t";
      break;
    default:
      out += "\\x";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
  }
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

}  // namespace

void start_logging(std::string_view program, LogLevel level, std::string_view file) {
  auto logging = make_logging(program, file);
  std::scoped_lock lock(state_mutex());
  state() = std::move(logging);
  current_level = level;
}

void reopen_log() {
  current()->sink->reopen();
}

void set_log_level(LogLevel level) {
  current_level = level;
}

bool log_enabled(LogLevel level) {
  return level >= current_level.load(std::memory_order_relaxed) && level != LogLevel::kOff;
}

void write_log(LogLevel level, std::string_view event, std::string_view fields) {
  if (!log_enabled(level)) return;
  try {
    std::string line(event);
    if (!fields.empty()) line += ' ';
    for (char c : fields) {
      // One event is one line, whatever a value holds.
      if (is_control(c)) {
        append_escaped(line, c);
      } else {
        line += c;
      }
    }
    current()->logger->log(to_spdlog(level), spdlog::string_view_t(line.data(), line.size()));
  } catch (...) {
    // Only memory can fail here; losing a line is better than ending the program for it.
  }
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (is_control(c)) {
      append_escaped(out, c);
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

}  // namespace cairn
