#include "common/kv/leveldb_env.h"

#include <algorithm>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <deque>

#include "common/base/buffer.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/kv/folder.h"

namespace cairn {
namespace {

using leveldb::Slice;
using leveldb::Status;

constexpr std::string_view kCodeMark = "cairn-error-";
constexpr size_t kWriteBufferBytes = 64 * kKiB;

std::string file_name(const std::string& path) {
  return path.substr(path.find_last_of('/') + 1);
}

bool is_log(std::string_view name) {
  return name.ends_with(".log");
}
bool is_manifest(std::string_view name) {
  return name.starts_with("MANIFEST-");
}
bool is_table(std::string_view name) {
  return name.ends_with(".ldb") || name.ends_with(".sst");
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
std::span<std::byte> writable(char* data, size_t size) {
  return {reinterpret_cast<std::byte*>(data), size};
}

Status status_of(const Result<void>& result) {
  return result ? Status::OK() : to_status(result.error());
}

class Sequential : public leveldb::SequentialFile {
 public:
  explicit Sequential(std::unique_ptr<File> file) : file_(std::move(file)) {}
  Status Read(size_t n, Slice* result, char* scratch) override {
    size_t done = 0;
    // LevelDB takes a short read for the end of the file.
    while (done < n) {
      Result<size_t> got = file_->read(position_ + done, writable(scratch + done, n - done));
      if (!got) return to_status(got.error());
      if (*got == 0) break;
      done += *got;
    }
    position_ += done;
    *result = Slice(scratch, done);
    return Status::OK();
  }
  Status Skip(uint64_t n) override {
    position_ += n;
    return Status::OK();
  }

 private:
  std::unique_ptr<File> file_;
  uint64_t position_ = 0;
};

thread_local bool cached_reads_only = false;

class RandomAccess : public leveldb::RandomAccessFile {
 public:
  explicit RandomAccess(std::unique_ptr<File> file) : file_(std::move(file)) {}
  Status Read(uint64_t offset, size_t n, Slice* result, char* scratch) const override {
    std::span<std::byte> out = writable(scratch, n);
    Result<size_t> got = cached_reads_only ? file_->read_cached(offset, out) : file_->read(offset, out);
    if (!got) return to_status(got.error());
    *result = Slice(scratch, *got);
    return Status::OK();
  }

 private:
  std::unique_ptr<File> file_;
};

class Lock : public leveldb::FileLock {
 public:
  explicit Lock(std::unique_ptr<FolderLock> lock) : lock_(std::move(lock)) {}

 private:
  std::unique_ptr<FolderLock> lock_;
};

class LogLogger : public leveldb::Logger {
 public:
  explicit LogLogger(std::string folder) : folder_(std::move(folder)) {}
  void Logv(const char* format, va_list arguments) override {
    if (!log_enabled(LogLevel::kDebug)) return;
    char text[512];
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wformat-nonliteral"
    std::vsnprintf(text, sizeof text, format, arguments);
#pragma clang diagnostic pop
    std::string_view line(text);
    while (line.ends_with('\n'))
      line.remove_suffix(1);
    log_debug("leveldb", "folder={} text={}", quoted(folder_), quoted(line));
  }

 private:
  std::string folder_;
};

}  // namespace

Status to_status(const Error& error) {
  std::string text = fmt::format("{}{} {}", kCodeMark, static_cast<int>(error.code), error.context);
  switch (error.code) {
    case ErrorCode::kNotFound:
      return Status::NotFound(text);
    case ErrorCode::kCorrupt:
      return Status::Corruption(text);
    default:
      return Status::IOError(text);
  }
}

Error to_error(const Status& status) {
  CHECK(!status.ok());
  std::string text = status.ToString();
  if (size_t mark = text.find(kCodeMark); mark != std::string::npos) {
    const char* number = text.c_str() + mark + kCodeMark.size();
    char* end = nullptr;
    auto code = static_cast<uint16_t>(std::strtoul(number, &end, 10));
    return Error(error_code_from_wire(code), *end == ' ' ? end + 1 : end);
  }
  if (status.IsNotFound()) return Error(ErrorCode::kNotFound, text);
  if (status.IsCorruption()) return Error(ErrorCode::kCorrupt, text);
  if (status.IsInvalidArgument()) return Error(ErrorCode::kInvalid, text);
  return Error(ErrorCode::kIo, text);
}

std::unique_ptr<leveldb::Logger> make_leveldb_logger(std::string folder) {
  return std::make_unique<LogLogger>(std::move(folder));
}

// LevelDB's compactions, one after the other, on a thread of this store's own: a slow disk does not hold up another's.
// The thread is LevelDB's (its default Env starts it); what it shares with us outlives both.
class LevelDbEnv::Background {
 public:
  explicit Background() : shared_(std::make_shared<Shared>()) {}
  ~Background() {
    std::unique_lock lock(shared_->mutex);
    shared_->stop = true;
    shared_->changed.notify_all();
    shared_->changed.wait(lock, [this] { return !shared_->running; });
  }

  void schedule(void (*function)(void*), void* argument) {
    std::scoped_lock lock(shared_->mutex);
    shared_->queue.push_back({function, argument});
    shared_->changed.notify_all();
    if (shared_->running) return;
    shared_->running = true;
    leveldb::Env::Default()->StartThread(&Background::run, new std::shared_ptr<Shared>(shared_));
  }

 private:
  struct Job {
    void (*function)(void*);
    void* argument;
  };
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> queue;
    bool running = false;
    bool stop = false;
  };

  static void run(void* argument) {
    std::unique_ptr<std::shared_ptr<Shared>> owner(static_cast<std::shared_ptr<Shared>*>(argument));
    Shared& shared = **owner;
    std::unique_lock lock(shared.mutex);
    while (true) {
      shared.changed.wait(lock, [&] { return shared.stop || !shared.queue.empty(); });
      if (shared.queue.empty()) break;
      Job job = shared.queue.front();
      shared.queue.pop_front();
      lock.unlock();
      job.function(job.argument);
      lock.lock();
    }
    shared.running = false;
    shared.changed.notify_all();
  }

  std::shared_ptr<Shared> shared_;
};

class LevelDbEnv::Writable : public leveldb::WritableFile {
 public:
  Writable(LevelDbEnv& env, std::string name, std::unique_ptr<File> file)
      : env_(env), name_(std::move(name)), file_(std::move(file)) {
    buffer_.reserve(kWriteBufferBytes);
  }
  ~Writable() override {
    // LevelDB 1.23 drops a log without closing it.
    if (!closed_) (void)Close();
  }

  Status Append(const Slice& data) override {
    if (buffer_.size() + data.size() > kWriteBufferBytes) {
      Status flushed = write_out();
      if (!flushed.ok()) return flushed;
      if (data.size() >= kWriteBufferBytes) return write({data.data(), data.size()});
    }
    buffer_.append(data.data(), data.size());
    return Status::OK();
  }

  // LevelDB asks for it after each record of a log, which must outlive this process, and after each block of a table,
  // which is nothing before its sync.
  Status Flush() override { return is_table(name_) ? Status::OK() : write_out(); }

  Status Sync() override {
    Status flushed = write_out();
    if (!flushed.ok()) return flushed;
    if (std::optional<Error> failure = env_.failure()) return to_status(*failure);
    if (is_log(name_)) {
      Result<void> named = env_.sync_folder_if_changed();
      if (!named) return to_status(named.error());
    }
    Result<void> synced = file_->sync();
    if (!synced) env_.fail(synced.error().in(name_));
    synced_ = synced.has_value();
    return status_of(synced);
  }

  Status Close() override {
    if (closed_) return Status::OK();
    closed_ = true;
    const bool must_be_durable = is_log(name_) && env_.sync_closed_logs_ && !(synced_ && buffer_.empty());
    Status done = must_be_durable ? Sync() : write_out();
    file_.reset();
    env_.finished(name_);
    if (is_log(name_)) {
      std::scoped_lock lock(env_.mutex_);
      if (env_.log_ == this) env_.log_ = nullptr;
    }
    return done;
  }

  // Zeros up to at least `bytes` behind what is written. Called by the one who writes, between two writes.
  Result<void> fill_ahead(uint64_t bytes) {
    if (position_ + bytes <= filled_) return {};
    // When the disk is nearly full: just what is needed.
    Result<void> filled = fill_to(std::max(position_ + bytes, filled_ + env_.log_fill_bytes_));
    if (filled.failed_with(ErrorCode::kNoSpace)) filled = fill_to(position_ + bytes);
    return filled;
  }

 private:
  Status write_out() {
    if (buffer_.empty()) return Status::OK();
    Status written = write(buffer_);
    buffer_.clear();
    return written;
  }

  bool is_journal() const { return is_log(name_) || is_manifest(name_); }

  Status write(std::string_view data) {
    if (std::optional<Error> failure = env_.failure()) return to_status(*failure);
    // What is written may be on the disk at once: the names of the tables that a manifest names come first.
    if (is_manifest(name_)) {
      Result<void> named = env_.sync_folder_if_changed();
      if (!named) return to_status(named.error());
    }
    Result<void> written = file_->write(position_, bytes_of(data));
    if (!written) {
      // LevelDB goes on counting as if the record were there; what follows could not be read.
      if (is_journal()) env_.fail(written.error().in(name_));
      return to_status(written.error());
    }
    position_ += data.size();
    synced_ = false;
    if (is_journal()) {
      std::scoped_lock lock(env_.mutex_);
      env_.lengths_[name_] = position_;
    }
    return Status::OK();
  }

  Result<void> fill_to(uint64_t end) {
    static const Buffer zeros = Buffer::zeros(256 * kKiB);
    while (filled_ < end) {
      uint64_t from = std::max(filled_, position_);
      uint64_t size = std::min<uint64_t>(zeros.size(), end - from);
      Result<void> written = file_->write(from, zeros.span().first(size));
      if (!written) return written;
      filled_ = from + size;
    }
    return {};
  }

  LevelDbEnv& env_;
  const std::string name_;
  std::unique_ptr<File> file_;
  std::string buffer_;
  uint64_t position_ = 0;
  uint64_t filled_ = 0;
  bool synced_ = false;  // everything written so far
  bool closed_ = false;
};

LevelDbEnv::LevelDbEnv(Disk& disk, std::string folder, uint64_t log_fill_bytes, bool sync_closed_logs)
    : disk_(disk),
      folder_(std::move(folder)),
      log_fill_bytes_(log_fill_bytes),
      sync_closed_logs_(sync_closed_logs),
      background_(std::make_unique<Background>()) {}

LevelDbEnv::~LevelDbEnv() = default;

void LevelDbEnv::fail(const Error& error) {
  std::scoped_lock lock(mutex_);
  if (failure_) return;
  failure_ = error;
  log_error("kv.failed", "folder={} error={}", quoted(folder_), quoted(error.message()));
}

std::optional<Error> LevelDbEnv::failure() const {
  std::scoped_lock lock(mutex_);
  return failure_;
}

Result<void> LevelDbEnv::reserve_log(uint64_t bytes) {
  Writable* log = nullptr;
  {
    std::scoped_lock lock(mutex_);
    if (failure_) return *failure_;
    reserved_bytes_ = bytes;
    log = log_;
  }
  if (!log || log_fill_bytes_ == 0) return {};
  Result<void> filled = log->fill_ahead(bytes);
  if (!filled && filled.code() != ErrorCode::kNoSpace) fail(filled.error());
  return filled;
}

Result<void> LevelDbEnv::sync_folder_if_changed() {
  std::scoped_lock one_at_a_time(folder_sync_mutex_);
  {
    std::scoped_lock lock(mutex_);
    if (!folder_changed_) return {};
    // What is made while this syncs counts for the next.
    folder_changed_ = false;
  }
  Result<void> synced = disk_.sync_folder(folder_);
  if (!synced) fail(synced.error().in(folder_));
  return synced;
}

void LevelDbEnv::finished(const std::string& name) {
  std::scoped_lock lock(mutex_);
  unfinished_tables_.erase(name);
}

Result<LevelDbEnv::Frozen> LevelDbEnv::freeze() {
  Frozen frozen;
  std::set<std::string> going;
  {
    std::scoped_lock lock(mutex_);
    if (failure_) return *failure_;
    CHECK(!frozen_);
    frozen_ = true;
    frozen.copies = lengths_;
    going = removing_;
  }
  // The manifest's length is taken first: every table that it names up to there is finished and stays.
  Result<std::vector<std::string>> names = disk_.list(folder_);
  if (!names) {
    thaw();
    return names.error();
  }
  std::scoped_lock lock(mutex_);
  for (std::string& name : *names) {
    if (is_table(name) && !unfinished_tables_.contains(name) && !going.contains(name))
      frozen.tables.push_back(std::move(name));
  }
  return frozen;
}

void LevelDbEnv::thaw() {
  std::set<std::string> remove;
  {
    std::scoped_lock lock(mutex_);
    frozen_ = false;
    remove.swap(remove_at_thaw_);
  }
  // A file that stays because this fails is removed when the store is opened again.
  for (const std::string& path : remove)
    (void)RemoveFile(path);
}

Status LevelDbEnv::NewSequentialFile(const std::string& path, leveldb::SequentialFile** result) {
  *result = nullptr;
  Result<std::unique_ptr<File>> file = disk_.open(path, {.read_only = true});
  if (!file) return to_status(file.error());
  *result = new Sequential(std::move(*file));
  return Status::OK();
}

Status LevelDbEnv::NewRandomAccessFile(const std::string& path, leveldb::RandomAccessFile** result) {
  *result = nullptr;
  Result<std::unique_ptr<File>> file = disk_.open(path, {.read_only = true});
  if (!file) return to_status(file.error());
  *result = new RandomAccess(std::move(*file));
  return Status::OK();
}

LevelDbEnv::CachedReadsOnly::CachedReadsOnly() {
  cached_reads_only = true;
}

LevelDbEnv::CachedReadsOnly::~CachedReadsOnly() {
  cached_reads_only = false;
}

Status LevelDbEnv::NewWritableFile(const std::string& path, leveldb::WritableFile** result) {
  *result = nullptr;
  std::string name = file_name(path);
  uint64_t reserve = 0;
  {
    std::scoped_lock lock(mutex_);
    if (failure_) return to_status(*failure_);
    // Before it is there: freeze() lists the folder at any time.
    if (is_table(name)) unfinished_tables_.insert(name);
    remove_at_thaw_.erase(path);
    reserve = reserved_bytes_;
  }
  OpenFlags flags{.create = true, .exclusive = true};
  Result<std::unique_ptr<File>> file = disk_.open(path, flags);
  if (file.failed_with(ErrorCode::kExists)) {
    // Somebody may have linked what is there: take the name, not the file.
    Result<void> removed = disk_.remove(path);
    if (!removed) return to_status(removed.error());
    file = disk_.open(path, flags);
  }
  if (!file) return to_status(file.error());
  {
    std::scoped_lock lock(mutex_);
    folder_changed_ = true;  // after it is there: a sync of the folder before this did not cover it
  }
  auto writable = std::make_unique<Writable>(*this, name, std::move(*file));
  if (is_log(name) && log_fill_bytes_ > 0) {
    Result<void> filled = writable->fill_ahead(reserve);
    if (!filled) {
      writable.reset();
      (void)disk_.remove(path);
      return to_status(filled.error());
    }
  }
  std::scoped_lock lock(mutex_);
  if (is_log(name) || is_manifest(name)) lengths_[name] = 0;
  if (is_log(name)) log_ = writable.get();
  *result = writable.release();
  return Status::OK();
}

bool LevelDbEnv::FileExists(const std::string& path) {
  Result<bool> there = disk_.exists(path);
  // CURRENT is what LevelDB asks for: to say "no" because of a bad disk would make it start an empty store.
  return !there || *there;
}

Status LevelDbEnv::GetChildren(const std::string& folder, std::vector<std::string>* result) {
  Result<std::vector<std::string>> names = disk_.list(folder);
  if (!names) return to_status(names.error());
  *result = std::move(*names);
  return Status::OK();
}

Status LevelDbEnv::RemoveFile(const std::string& path) {
  std::string name = file_name(path);
  {
    std::scoped_lock lock(mutex_);
    if (frozen_) {
      remove_at_thaw_.insert(path);
      return Status::OK();
    }
    lengths_.erase(name);
    removing_.insert(name);
  }
  Result<void> removed = disk_.remove(path);
  std::scoped_lock lock(mutex_);
  removing_.erase(name);
  return status_of(removed);
}

Status LevelDbEnv::CreateDir(const std::string& path) {
  return status_of(disk_.make_folder(path));
}
Status LevelDbEnv::RemoveDir(const std::string& path) {
  return status_of(disk_.remove(path));
}

Status LevelDbEnv::GetFileSize(const std::string& path, uint64_t* size) {
  Result<uint64_t> found = disk_.file_size(path);
  *size = found ? *found : 0;
  return found ? Status::OK() : to_status(found.error());
}

Status LevelDbEnv::RenameFile(const std::string& from, const std::string& to) {
  if (std::optional<Error> failed = failure()) return to_status(*failed);
  Result<void> renamed = disk_.rename(from, to);
  if (!renamed) return to_status(renamed.error());
  Result<void> synced = disk_.sync_folder(folder_);
  if (!synced) fail(synced.error().in(folder_));
  return status_of(synced);
}

Status LevelDbEnv::LockFile(const std::string& path, leveldb::FileLock** lock) {
  *lock = nullptr;
  Result<std::unique_ptr<FolderLock>> taken = disk_.lock_folder(parent_folder(path));
  if (!taken) return to_status(taken.error());
  *lock = new Lock(std::move(*taken));
  return Status::OK();
}

Status LevelDbEnv::UnlockFile(leveldb::FileLock* lock) {
  delete lock;
  return Status::OK();
}

void LevelDbEnv::Schedule(void (*function)(void*), void* argument) {
  background_->schedule(function, argument);
}

void LevelDbEnv::StartThread(void (*function)(void*), void* argument) {
  leveldb::Env::Default()->StartThread(function, argument);
}

Status LevelDbEnv::GetTestDirectory(std::string*) {
  return Status::NotSupported("no test folder");
}

Status LevelDbEnv::NewLogger(const std::string&, leveldb::Logger** result) {
  *result = make_leveldb_logger(folder_).release();
  return Status::OK();
}

// For LevelDB's statistics only, which nobody reads.
uint64_t LevelDbEnv::NowMicros() {
  return 0;
}

// LevelDB slows a writer down by a millisecond when compactions fall behind.
void LevelDbEnv::SleepForMicroseconds(int micros) {
  leveldb::Env::Default()->SleepForMicroseconds(micros);
}

}  // namespace cairn

#if __has_feature(thread_sanitizer)
// Debian's LevelDB is not instrumented: its skip list publishes nodes by atomics that ThreadSanitizer cannot see. This
// leaves out our Env too while LevelDB calls it, so leveldb_env_test.cc calls it directly.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:libleveldb.so\n";
}
#endif
