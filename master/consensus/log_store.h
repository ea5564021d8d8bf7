// LogStore: the write-ahead log of one master. Segments of a fixed size, filled with zeros beforehand and used again
// and again, so that a sync only has to write data (docs/formats.md, "Master's log").
//
// Blocking. append() is for one thread (the pool "log"). prepare_spare() and purge() are for one other thread, possibly
// at the same time; read(), and the questions below it, for any. An error of append() is final: what is on disk is
// unknown, the process must end (never sync again after a sync that failed). Lifetime: the Disk outlives the store.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/runtime/disk.h"
#include "master/consensus/log_record.h"

namespace cairn {

struct LogStoreOptions {
  std::string folder;
  ClusterId cluster;
  MasterId master;
  uint64_t segment_size_bytes = 0;
};

struct StoredEntry {
  uint64_t index = 0;
  uint64_t term = 0;
  uint8_t type = 0;
  std::string payload;
};

// What open() found.
struct RecoveredLog {
  uint64_t term = 0;
  uint64_t voted_for = 0;
  uint64_t first_index = 0;  // of the entries below
  struct Entry {
    uint64_t term = 0;
    uint8_t type = 0;
    uint32_t payload_bytes = 0;
  };
  std::vector<Entry> entries;
  uint64_t cut_bytes = 0;  // of a torn tail: written, never acknowledged
};

class LogStore {
 public:
  // Reads the whole log. A torn tail is cut. kCorrupt, with file, offset and the way out, when what had been durable is
  // damaged or missing; kWrongCluster when it is another master's.
  static Result<std::unique_ptr<LogStore>> open(Disk& disk, LogStoreOptions options, RecoveredLog& recovered);

  // Writes the records in this order and makes them durable with one sync (one a segment, where they reach over its
  // end). Entries must follow on what is there or replace from an index on. kNoSpace: nothing can be written any more.
  Result<void> append(std::span<const Record> records);

  // One more zero-filled segment, if fewer than kSparesMin are there. kNoSpace if the disk has no room; then nothing is
  // left behind.
  Result<void> prepare_spare();
  bool needs_spare() const;
  // Gives up whole segments whose entries are all at or below `index`; some are kept as spares.
  Result<void> purge(uint64_t index);

  // Entries from `from` on, at least one, as many as fit into max_bytes. kNotFound if it is not (or no longer) in the
  // log; kCorrupt.
  Result<std::vector<StoredEntry>> read(uint64_t from, uint64_t max_bytes) const;

  uint64_t first_index() const;  // last_index() + 1 when there are no entries
  uint64_t last_index() const;
  // Bytes surely writable without asking the disk for more.
  uint64_t writable_bytes() const;
  uint64_t disk_bytes() const;
  // Bytes of records appended since open().
  uint64_t appended_bytes() const;
  // The lowest index such that (index, upto] are at most `entries` entries and `bytes` bytes.
  uint64_t trailing_index(uint64_t upto, uint64_t entries, uint64_t bytes) const;

 private:
  static constexpr size_t kSparesMin = 1;  // what prepare_spare() sees to
  static constexpr size_t kSparesMax = 4;  // what purge() keeps of old segments

  struct Segment {
    uint64_t generation = 0;
    std::string path;
    std::unique_ptr<File> file;
    uint64_t size = 0;
    uint64_t end = kSegmentHeaderBytes;  // where the next record goes
    uint32_t last_crc = 0;
    uint64_t highest_index = 0;  // of any entry it ever held
    SegmentHeader header;
  };
  struct Location {
    uint64_t generation;
    uint32_t offset;
    uint32_t size;  // with padding
  };

  LogStore(Disk& disk, LogStoreOptions options) : disk_(disk), options_(std::move(options)) {}

  Result<void> find_files(std::vector<uint64_t>& generations);
  Result<void> recover_segment(uint64_t generation, bool last, RecoveredLog& recovered);
  Result<void> take_record(const ReadRecord& read, Segment& segment, uint64_t offset, RecoveredLog& recovered);
  Result<void> check_tail(Segment& segment, std::string_view bytes, bool last, RecoveredLog& recovered);
  Error damaged(const Segment& segment, uint64_t offset, std::string_view what) const;

  Result<void> write_group(Segment& segment, std::span<const Record> records);
  Result<void> activate_segment();
  std::string next_spare_name();
  Result<std::string> make_file(const std::string& name, bool fill);
  std::string path_of(const std::string& name) const { return options_.folder + "/" + name; }
  void note_entry(uint64_t index, Location location);
  const Location* location(uint64_t index) const;

  Disk& disk_;
  const LogStoreOptions options_;
  // append()'s thread only (before that, open()'s).
  std::shared_ptr<Segment> active_;  // the last of segments_
  uint64_t term_ = 0;                // the last record's; repeated at the beginning of each segment
  uint64_t voted_for_ = 0;
  bool begun_ = false;              // open() has seen where the log begins
  uint64_t oldest_generation_ = 1;  // that open() found

  mutable std::mutex mutex_;
  // Under mutex_, and so are the contents of a Segment, except for append()'s thread, which alone changes those of
  // active_.
  std::deque<std::shared_ptr<Segment>> segments_;  // oldest first; shared with readers
  std::deque<Location> locations_;                 // of the entry first_index_ + i
  uint64_t first_index_ = 1;
  std::vector<std::string> spares_;  // names
  uint64_t next_spare_ = 1;
  uint64_t appended_bytes_ = 0;
};

}  // namespace cairn
