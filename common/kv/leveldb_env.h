// LevelDbEnv: LevelDB's operating system, over the Disk seam, with the promises that LevelDB needs and POSIX does not
// make by itself (consistency.md, "Versions" 4):
//  - A log is synced before it is closed, so a batch in a later log never outlives one in an earlier log.
//  - A log's name is durable before its first sync returns; table names are durable before the manifest that names
//  them; a
//    rename (CURRENT) is followed by a sync of the folder.
//  - A file is made anew, never truncated: a table that a checkpoint has linked stays as it is, even if the number
//  comes again.
//  - After a sync or a write of a log failed, nothing is believed any more: every later write and sync fails
//  (fsyncgate).
//  - Space for a batch is taken before LevelDB starts to write it: a log record that is cut short by a full disk would
//  make all later
//    records of that log unreadable.
//
// Thread-safe. One Env serves one store and must outlive its DB; the Disk must outlive the Env. Compiled without RTTI,
// as LevelDB is.
#pragma once

#include <leveldb/env.h>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/disk.h"

namespace cairn {

// Our code travels inside the text of a Status, which knows fewer kinds.
leveldb::Status to_status(const Error& error);
Error to_error(const leveldb::Status& status);

// Forwards LevelDB's own messages to our log, at debug level.
std::unique_ptr<leveldb::Logger> make_leveldb_logger(std::string folder);

class LevelDbEnv : public leveldb::Env {
 public:
  // Logs are filled with zeros `log_fill_bytes` ahead: a synced write then changes no metadata of the file
  // (bench/results.md).
  LevelDbEnv(Disk& disk, std::string folder, uint64_t log_fill_bytes, bool sync_closed_logs = true);
  ~LevelDbEnv() override;

  // While one lives, reads of tables on its thread that would wait for the disk fail with kAgain, and LevelDB's Get with
  // them. (A table that is not open yet is opened all the same.)
  class CachedReadsOnly {
   public:
    CachedReadsOnly();
    ~CachedReadsOnly();
    CachedReadsOnly(const CachedReadsOnly&) = delete;
    CachedReadsOnly& operator=(const CachedReadsOnly&) = delete;
  };

  // Takes space for `bytes` more in the log; before each write. kNoSpace: nothing has happened.
  Result<void> reserve_log(uint64_t bytes);
  // The failure after which nothing is written any more.
  std::optional<Error> failure() const;

  // What a checkpoint holds: finished tables (to be linked), and how much of each log and manifest (to be copied).
  struct Frozen {
    std::vector<std::string> tables;
    std::map<std::string, uint64_t> copies;
  };
  // While nobody writes to the DB. From now on deletions wait until thaw().
  Result<Frozen> freeze();
  void thaw();

  leveldb::Status NewSequentialFile(const std::string& path, leveldb::SequentialFile** result) override;
  leveldb::Status NewRandomAccessFile(const std::string& path, leveldb::RandomAccessFile** result) override;
  leveldb::Status NewWritableFile(const std::string& path, leveldb::WritableFile** result) override;
  bool FileExists(const std::string& path) override;
  leveldb::Status GetChildren(const std::string& folder, std::vector<std::string>* result) override;
  leveldb::Status RemoveFile(const std::string& path) override;
  leveldb::Status DeleteFile(const std::string& path) override { return RemoveFile(path); }
  leveldb::Status CreateDir(const std::string& path) override;
  leveldb::Status RemoveDir(const std::string& path) override;
  leveldb::Status DeleteDir(const std::string& path) override { return RemoveDir(path); }
  leveldb::Status GetFileSize(const std::string& path, uint64_t* size) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status LockFile(const std::string& path, leveldb::FileLock** lock) override;
  leveldb::Status UnlockFile(leveldb::FileLock* lock) override;
  void Schedule(void (*function)(void*), void* argument) override;
  void StartThread(void (*function)(void*), void* argument) override;
  leveldb::Status GetTestDirectory(std::string* path) override;
  leveldb::Status NewLogger(const std::string& path, leveldb::Logger** result) override;
  uint64_t NowMicros() override;
  void SleepForMicroseconds(int micros) override;

 private:
  class Writable;
  class Background;

  void fail(const Error& error);
  Result<void> sync_folder_if_changed();
  void finished(const std::string& name);

  Disk& disk_;
  const std::string folder_;
  const uint64_t log_fill_bytes_;
  const bool sync_closed_logs_;
  std::unique_ptr<Background> background_;

  std::mutex
      folder_sync_mutex_;  // held while the folder is synced: nobody goes on before that is done; taken before mutex_
  mutable std::mutex mutex_;
  std::optional<Error> failure_;
  bool folder_changed_ = false;  // a name was made that may not be durable
  std::set<std::string> unfinished_tables_;
  std::map<std::string, uint64_t> lengths_;  // of the logs and manifests of this process, without what was filled ahead
  std::set<std::string> removing_;           // names whose removal is under way
  bool frozen_ = false;
  std::set<std::string> remove_at_thaw_;  // paths
  Writable* log_ = nullptr;               // the newest
  uint64_t reserved_bytes_ = 0;           // for the write under way, should it start a log
};

}  // namespace cairn
