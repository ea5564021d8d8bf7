#include "master/consensus/log_store.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "common/base/buffer.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/kv/folder.h"

namespace cairn {

namespace {
constexpr std::string_view kSegmentSuffix = ".log";
constexpr std::string_view kSparePrefix = "spare-";
constexpr std::string_view kUnfinishedPrefix = "making-";
constexpr uint64_t kFillPieceBytes = kMiB;  // zeros are written in such pieces,
constexpr uint64_t kFillSyncBytes =
    8 * kMiB;  // and synced in such, so that the log's own syncs do not wait for all of them

std::string hex16(uint64_t number) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(16, '0');
  for (int i = 15; i >= 0; --i, number >>= 4)
    text[static_cast<size_t>(i)] = kDigits[number & 15];
  return text;
}

std::string segment_name(uint64_t generation) {
  return hex16(generation) + std::string(kSegmentSuffix);
}

// The number in a name of ours, or nothing.
std::optional<uint64_t> number_in(std::string_view name, std::string_view prefix, std::string_view suffix) {
  if (name.size() != prefix.size() + 16 + suffix.size() || !name.starts_with(prefix) || !name.ends_with(suffix))
    return {};
  const char* begin = name.data() + prefix.size();
  uint64_t number = 0;
  auto [end, error] = std::from_chars(begin, begin + 16, number, 16);
  if (error != std::errc() || end != begin + 16) return {};
  return number;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
}  // namespace

// ---------------------------------------------------------------- opening

Result<std::unique_ptr<LogStore>> LogStore::open(Disk& disk, LogStoreOptions options, RecoveredLog& recovered) {
  CHECK(options.segment_size_bytes >= 2 * kSegmentHeaderBytes && options.segment_size_bytes <= kGiB);
  std::unique_ptr<LogStore> store(new LogStore(disk, std::move(options)));
  std::vector<uint64_t> generations;
  Result<void> found = store->find_files(generations);
  if (!found) return found.error();
  recovered = RecoveredLog{};
  recovered.first_index = 1;
  store->oldest_generation_ = generations.empty() ? 1 : generations.front();
  for (size_t i = 0; i < generations.size(); ++i) {
    Result<void> read = store->recover_segment(generations[i], i + 1 == generations.size(), recovered);
    if (!read) return read.error();
  }
  store->term_ = recovered.term;
  store->voted_for_ = recovered.voted_for;
  store->first_index_ = recovered.first_index;
  CHECK(store->locations_.size() == recovered.entries.size());
  return store;
}

Result<void> LogStore::find_files(std::vector<uint64_t>& generations) {
  Result<void> made = make_durable_folder(disk_, options_.folder);
  if (!made) return made;
  Result<std::vector<std::string>> names = disk_.list(options_.folder);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    if (std::optional<uint64_t> generation = number_in(name, "", kSegmentSuffix)) {
      generations.push_back(*generation);
    } else if (std::optional<uint64_t> spare = number_in(name, kSparePrefix, "")) {
      next_spare_ = std::max(next_spare_, *spare + 1);
      Result<uint64_t> size = disk_.file_size(path_of(name));
      if (!size) return size.error();
      // Of another size: from before the setting was changed.
      if (*size == options_.segment_size_bytes) {
        spares_.push_back(name);
      } else {
        Result<void> removed = disk_.remove(path_of(name));
        if (!removed) return removed;
      }
    } else if (name.starts_with(kUnfinishedPrefix)) {
      Result<void> removed = disk_.remove(path_of(name));
      if (!removed) return removed;
    }
  }
  std::sort(generations.begin(), generations.end());
  for (size_t i = 1; i < generations.size(); ++i) {
    if (generations[i] == generations[i - 1] + 1) continue;
    return Error(ErrorCode::kCorrupt, "the log's segment " + path_of(segment_name(generations[i - 1] + 1)) +
                                          " is missing while later ones are there: put it back, or restore this "
                                          "master from a copy (docs/operations.md)");
  }
  return {};
}

Error LogStore::damaged(const Segment& segment, uint64_t offset, std::string_view what) const {
  return Error(
      ErrorCode::kCorrupt,
      segment.path + " is damaged at offset " + std::to_string(offset) + ": " + std::string(what) +
          ". This had been durable, so the log is not cut here by itself. Ways out: with other masters, remove "
          "this one from the group and add it again with an empty folder; else restore the folder from a copy; "
          "or, giving up every change from here on, cut this file at that offset (truncate -s " +
          std::to_string(offset) + ") and remove the segments after it");
}

Result<void> LogStore::recover_segment(uint64_t generation, bool last, RecoveredLog& recovered) {
  auto segment = std::make_shared<Segment>();
  segment->generation = generation;
  segment->path = path_of(segment_name(generation));
  Result<std::unique_ptr<File>> file = disk_.open(segment->path, OpenFlags{});
  if (!file) return file.error();
  segment->file = std::move(*file);
  Result<uint64_t> size = segment->file->size();
  if (!size) return size.error();
  segment->size = *size;

  Buffer content = Buffer::allocate(segment->size);
  Result<size_t> got = segment->file->read(0, content.mutable_span());
  if (!got) return got.error();
  std::string_view bytes = content.view().substr(0, *got);

  Result<SegmentHeader> header = decode_segment_header(bytes);
  if (!header && header.code() == ErrorCode::kNotSupported) return header.error().in(segment->path);
  if (!header) return damaged(*segment, 0, header.error().context);
  if (header->cluster != options_.cluster || header->master != options_.master) {
    return Error(ErrorCode::kWrongCluster, segment->path + " belongs to master " + to_string(header->master) +
                                               " of cluster " + to_string(header->cluster));
  }
  if (header->generation != generation) return damaged(*segment, 0, "its header is of another segment");
  if (!segments_.empty()) {
    const Segment& before = *segments_.back();
    if (header->previous_end != before.end || header->previous_crc != before.last_crc) {
      return damaged(before, before.end, "records at its end are missing");
    }
  }
  segment->header = *header;
  segment->last_crc = chain_seed(generation);

  while (true) {
    std::optional<ReadRecord> read = read_record(bytes.substr(segment->end), generation);
    if (!read || read->previous_crc != segment->last_crc) break;
    Result<void> taken = take_record(*read, *segment, segment->end, recovered);
    if (!taken) return taken;
    segment->end += read->size;
    segment->last_crc = read->crc;
  }
  Result<void> checked = check_tail(*segment, bytes, last, recovered);
  if (!checked) return checked;
  active_ = segment;
  segments_.push_back(std::move(segment));
  return {};
}

Result<void> LogStore::take_record(const ReadRecord& read, Segment& segment, uint64_t offset, RecoveredLog& recovered) {
  const Record& record = read.record;
  switch (record.type) {
    case RecordType::kTermAndVote:
      if (record.term < recovered.term) return damaged(segment, offset, "the term goes back");
      recovered.term = record.term;
      recovered.voted_for = record.index;
      return {};
    case RecordType::kReset:
      recovered.first_index = record.index + 1;
      recovered.entries.clear();
      first_index_ = recovered.first_index;
      locations_.clear();
      begun_ = true;
      return {};
    case RecordType::kEntry:
      break;
  }
  // The first entry that is left says where the log begins.
  if (!begun_ || (record.index < recovered.first_index && oldest_generation_ > 1)) {
    // Or a later one with a lower index: it replaces entries of a segment that has been purged since.
    begun_ = true;
    recovered.first_index = first_index_ = record.index;
    recovered.entries.clear();
    locations_.clear();
  }
  if (record.index < recovered.first_index || record.index > recovered.first_index + recovered.entries.size()) {
    return damaged(segment, offset,
                   "entry " + std::to_string(record.index) + " does not follow on what is before it (" +
                       std::to_string(recovered.first_index) + " to " +
                       std::to_string(recovered.first_index + recovered.entries.size() - 1) + ")");
  }
  recovered.entries.resize(record.index - recovered.first_index);
  recovered.entries.push_back({record.term, record.entry_type, static_cast<uint32_t>(record.payload.size())});
  note_entry(record.index, {segment.generation, static_cast<uint32_t>(offset), static_cast<uint32_t>(read.size)});
  segment.highest_index = std::max(segment.highest_index, record.index);
  return {};
}

// What stands behind the last good record: nothing, what a crash left of the last group, or damage.
Result<void> LogStore::check_tail(Segment& segment, std::string_view bytes, bool last, RecoveredLog& recovered) {
  uint64_t found_end = segment.end;
  for (uint64_t at = segment.end; at + kRecordHeaderBytes <= bytes.size(); at += kRecordAlignment) {
    std::optional<ReadRecord> read = read_record(bytes.substr(at), segment.generation);
    if (!read) continue;
    // Its group was begun after everything before the group was durable; that includes what should be at segment.end.
    if (read->group_start > segment.end) return damaged(segment, segment.end, "a record is not intact, later ones are");
    found_end = at + read->size;
    at = found_end - kRecordAlignment;
  }
  if (!last || found_end == segment.end) return {};
  recovered.cut_bytes += found_end - segment.end;
  log_warning("log.tail_cut", "file={} offset={} bytes={}", segment.path, segment.end, found_end - segment.end);
  // Intact records behind the cut would join again what is written there, if that were the same as before.
  Buffer zeros = Buffer::zeros(found_end - segment.end);
  Result<void> cleared = segment.file->write(segment.end, zeros.span());
  if (cleared) cleared = segment.file->sync();
  if (!cleared) return cleared.error().in("cutting " + segment.path);
  return {};
}

// ---------------------------------------------------------------- appending

Result<void> LogStore::append(std::span<const Record> records) {
  size_t done = 0;
  while (done < records.size()) {
    // As many as fit into the segment; a group does not reach over its end, because the segment before must be durable
    // first.
    uint64_t room = active_ != nullptr && active_->size > active_->end ? active_->size - active_->end : 0;
    uint64_t taken = 0;
    size_t count = 0;
    while (done + count < records.size()) {
      uint64_t size = record_size(records[done + count].payload.size());
      if (taken + size > room) break;
      taken += size;
      ++count;
    }
    if (count == 0) {
      uint64_t largest = options_.segment_size_bytes - kSegmentHeaderBytes - record_size(0);
      if (record_size(records[done].payload.size()) > largest) return Error(ErrorCode::kTooBig, "log record");
      Result<void> activated = activate_segment();
      if (!activated) return activated;
      continue;
    }
    Result<void> written = write_group(*active_, records.subspan(done, count));
    if (!written) return written;
    done += count;
  }
  return {};
}

Result<void> LogStore::write_group(Segment& segment, std::span<const Record> records) {
  std::string bytes;
  std::vector<uint64_t> offsets;
  offsets.reserve(records.size());
  uint64_t start = segment.end;
  uint32_t crc = segment.last_crc;
  for (const Record& record : records) {
    offsets.push_back(start + bytes.size());
    crc = append_record(bytes, record, segment.generation, crc, start);
  }
  Result<void> written = segment.file->write(start, bytes_of(bytes));
  if (!written) return written.error().in("writing " + segment.path);
  Result<void> synced = segment.file->sync();
  if (!synced) return synced.error().in("syncing " + segment.path);

  std::lock_guard lock(mutex_);
  segment.end = start + bytes.size();
  segment.last_crc = crc;
  appended_bytes_ += bytes.size();
  for (size_t i = 0; i < records.size(); ++i) {
    const Record& record = records[i];
    if (record.type == RecordType::kTermAndVote) {
      term_ = record.term;
      voted_for_ = record.index;
    } else if (record.type == RecordType::kReset) {
      locations_.clear();
      first_index_ = record.index + 1;
    } else {
      note_entry(record.index, {segment.generation, static_cast<uint32_t>(offsets[i]),
                                static_cast<uint32_t>(record_size(record.payload.size()))});
      segment.highest_index = std::max(segment.highest_index, record.index);
    }
  }
  return {};
}

void LogStore::note_entry(uint64_t index, Location location) {
  if (locations_.empty()) first_index_ = index;
  CHECK(index >= first_index_ && index <= first_index_ + locations_.size());
  locations_.resize(index - first_index_);
  locations_.push_back(location);
}

// Takes a spare into use. A segment has its header on disk before it gets its name, and its name before its first
// record: one that has the name and no good header is damaged.
Result<void> LogStore::activate_segment() {
  std::string spare;
  {
    std::lock_guard lock(mutex_);
    if (!spares_.empty()) {
      spare = spares_.back();
      spares_.pop_back();
    }
  }
  if (spare.empty()) {
    // Nobody prepared one in time: reserve the space and go on, with slower syncs until it has been written once.
    Result<std::string> made = make_file(next_spare_name(), false);
    if (!made) return made.error();
    spare = std::move(*made);
  }
  auto segment = std::make_shared<Segment>();
  segment->header.cluster = options_.cluster;
  segment->header.master = options_.master;
  segment->header.generation = 1;
  if (active_ != nullptr) {
    const Segment& before = *active_;
    segment->header.generation = before.generation + 1;
    segment->header.previous_end = before.end;
    segment->header.previous_crc = before.last_crc;
  }
  segment->generation = segment->header.generation;
  segment->last_crc = chain_seed(segment->generation);
  segment->size = options_.segment_size_bytes;
  segment->path = path_of(segment_name(segment->generation));
  Result<std::unique_ptr<File>> file = disk_.open(path_of(spare), OpenFlags{});
  if (!file) return file.error();
  segment->file = std::move(*file);
  Result<void> written = segment->file->write(0, bytes_of(encode_segment_header(segment->header)));
  if (!written) return written.error().in("writing " + segment->path);
  Result<void> synced = segment->file->sync();
  if (!synced) return synced.error().in("syncing " + segment->path);
  Result<void> renamed = disk_.rename(path_of(spare), segment->path);
  if (!renamed) return renamed;
  Result<void> named = disk_.sync_folder(options_.folder);
  if (!named) return named;
  active_ = segment;
  {
    std::lock_guard lock(mutex_);
    segments_.push_back(std::move(segment));
  }
  if (term_ == 0) return {};
  // The record of the term must not go away with the segment that holds it.
  Record term{.type = RecordType::kTermAndVote, .index = voted_for_, .term = term_};
  return write_group(*active_, std::span(&term, 1));
}

// ---------------------------------------------------------------- space

bool LogStore::needs_spare() const {
  std::lock_guard lock(mutex_);
  return spares_.size() < kSparesMin;
}

Result<void> LogStore::prepare_spare() {
  if (!needs_spare()) return {};
  Result<std::string> made = make_file(next_spare_name(), true);
  if (!made) return made.error();
  std::lock_guard lock(mutex_);
  spares_.push_back(std::move(*made));
  return {};
}

std::string LogStore::next_spare_name() {
  std::lock_guard lock(mutex_);
  return std::string(kSparePrefix) + hex16(next_spare_++);
}

// A durable file of a segment's size. It has its own name only once it is complete.
Result<std::string> LogStore::make_file(const std::string& name, bool fill) {
  std::string unfinished = path_of(std::string(kUnfinishedPrefix) + name);
  Result<void> made = [&]() -> Result<void> {
    Result<std::unique_ptr<File>> file = disk_.open(unfinished, OpenFlags{.create = true, .truncate = true});
    if (!file) return file.error();
    uint64_t size = options_.segment_size_bytes;
    Result<void> allocated = (*file)->allocate(0, size, false);
    if (!allocated) return allocated;
    Buffer zeros = Buffer::zeros(std::min(size, kFillPieceBytes));
    uint64_t unsynced = 0;
    for (uint64_t at = 0; fill && at < size; at += zeros.size()) {
      std::span<const std::byte> piece = zeros.span().first(std::min<uint64_t>(zeros.size(), size - at));
      Result<void> written = (*file)->write(at, piece);
      if (!written) return written;
      unsynced += piece.size();
      if (unsynced < kFillSyncBytes) continue;
      Result<void> synced = (*file)->sync();
      if (!synced) return synced;
      unsynced = 0;
    }
    return (*file)->sync();
  }();
  if (made) made = disk_.rename(unfinished, path_of(name));
  if (made) made = disk_.sync_folder(options_.folder);
  if (!made) {
    Result<void> removed = disk_.remove(unfinished);
    if (!removed && removed.code() != ErrorCode::kNotFound) {
      log_warning("log.unfinished_left", "file={} error={}", unfinished, removed.error().message());
    }
    return made.error().in("preparing a segment of the log");
  }
  return name;
}

Result<void> LogStore::purge(uint64_t index) {
  while (true) {
    std::string path;
    std::string spare;
    {
      std::lock_guard lock(mutex_);
      if (segments_.size() < 2 || segments_.front()->highest_index > index) return {};
      std::shared_ptr<Segment> oldest = segments_.front();
      segments_.pop_front();
      path = oldest->path;
      while (!locations_.empty() && locations_.front().generation == oldest->generation) {
        locations_.pop_front();
        ++first_index_;
      }
      if (oldest->size == options_.segment_size_bytes && spares_.size() < kSparesMax) {
        spare = std::string(kSparePrefix) + hex16(next_spare_++);
      }
    }
    Result<void> gone = spare.empty() ? disk_.remove(path) : disk_.rename(path, path_of(spare));
    if (!gone) return gone;
    // Before the next one: a name that came back by itself in the middle would look like a lost segment. And before it
    // is used again: its old name must not come back with the new content.
    Result<void> synced = disk_.sync_folder(options_.folder);
    if (!synced) return synced;
    if (spare.empty()) continue;
    std::lock_guard lock(mutex_);
    spares_.push_back(std::move(spare));
  }
}

// ---------------------------------------------------------------- reading

const LogStore::Location* LogStore::location(uint64_t index) const {
  if (index < first_index_ || index >= first_index_ + locations_.size()) return nullptr;
  return &locations_[index - first_index_];
}

Result<std::vector<StoredEntry>> LogStore::read(uint64_t from, uint64_t max_bytes) const {
  struct Piece {
    uint64_t index;
    Location location;
    std::shared_ptr<Segment> segment;
  };
  std::vector<Piece> pieces;
  {
    std::lock_guard lock(mutex_);
    uint64_t bytes = 0;
    for (uint64_t index = from; const Location* place = location(index); ++index) {
      if (!pieces.empty() && bytes + place->size > max_bytes) break;
      bytes += place->size;
      pieces.push_back({index, *place, segments_[place->generation - segments_.front()->generation]});
    }
  }
  if (pieces.empty()) return Error(ErrorCode::kNotFound, "log entry " + std::to_string(from));
  std::vector<StoredEntry> entries;
  entries.reserve(pieces.size());
  // Entries that stand one after the other are read at once.
  for (size_t begin = 0; begin < pieces.size();) {
    size_t end = begin + 1;
    uint64_t size = pieces[begin].location.size;
    while (end < pieces.size() && pieces[end].segment == pieces[begin].segment &&
           pieces[end].location.offset == pieces[begin].location.offset + size) {
      size += pieces[end].location.size;
      ++end;
    }
    const Piece& first = pieces[begin];
    Buffer buffer = Buffer::allocate(size);
    Result<size_t> got = first.segment->file->read(first.location.offset, buffer.mutable_span());
    if (!got) return got.error().in("reading " + first.segment->path);
    std::string_view bytes = buffer.view().substr(0, *got);
    for (; begin < end; ++begin) {
      const Piece& piece = pieces[begin];
      size_t at = piece.location.offset - first.location.offset;
      std::optional<ReadRecord> read =
          at <= bytes.size() ? read_record(bytes.substr(at), piece.location.generation) : std::nullopt;
      if (!read || read->record.index != piece.index)
        return damaged(*piece.segment, piece.location.offset, "a record is not intact");
      entries.push_back({piece.index, read->record.term, read->record.entry_type, std::string(read->record.payload)});
    }
  }
  return entries;
}

uint64_t LogStore::first_index() const {
  std::lock_guard lock(mutex_);
  return first_index_;
}

uint64_t LogStore::last_index() const {
  std::lock_guard lock(mutex_);
  return first_index_ + locations_.size() - 1;
}

uint64_t LogStore::writable_bytes() const {
  // What may be left unused at the end of a segment because the next record does not fit.
  uint64_t slack = std::min<uint64_t>(record_size(256 * kKiB), options_.segment_size_bytes / 2);
  std::lock_guard lock(mutex_);
  uint64_t bytes = spares_.size() * (options_.segment_size_bytes - kSegmentHeaderBytes - slack);
  if (!segments_.empty()) {
    const Segment& active = *segments_.back();
    uint64_t room = active.size > active.end ? active.size - active.end : 0;
    bytes += room > slack ? room - slack : 0;
  }
  return bytes;
}

uint64_t LogStore::disk_bytes() const {
  std::lock_guard lock(mutex_);
  uint64_t bytes = spares_.size() * options_.segment_size_bytes;
  for (const std::shared_ptr<Segment>& segment : segments_)
    bytes += segment->size;
  return bytes;
}

uint64_t LogStore::appended_bytes() const {
  std::lock_guard lock(mutex_);
  return appended_bytes_;
}

uint64_t LogStore::trailing_index(uint64_t upto, uint64_t entries, uint64_t bytes) const {
  std::lock_guard lock(mutex_);
  uint64_t index = upto;
  while (entries > 0) {
    const Location* place = location(index);
    if (place == nullptr || place->size > bytes) break;
    bytes -= place->size;
    --entries;
    --index;
  }
  return index;
}

}  // namespace cairn
