#include "master/restore/import.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/buffer.h"
#include "common/kv/folder.h"
#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"
#include "master/consensus/restored_folder.h"
#include "master/namespace/keys.h"
#include "master/namespace/records.h"

namespace cairn {
namespace {

constexpr size_t kBatchBytes = 1 << 20;
constexpr std::string_view kScratch = "importing";  // the state while it is put together
// What an attempt that did not finish leaves behind.
constexpr std::string_view kLeftovers[] = {kScratch, "checkpoints", "log", "LOCK", "rescued-dump"};

Result<std::unique_ptr<KvStore>> open_store(Disk& disk, const std::string& folder, bool memory) {
  if (memory) {
    Result<std::unique_ptr<MemoryStore>> store = MemoryStore::open(disk, folder);
    if (!store) return store.error();
    return std::unique_ptr<KvStore>(std::move(*store));
  }
  Result<std::unique_ptr<LevelDbStore>> store = LevelDbStore::open(disk, folder);
  if (!store) return store.error();
  return std::unique_ptr<KvStore>(std::move(*store));
}

class Loader {
 public:
  explicit Loader(KvStore& store) : store_(store) {}

  Result<void> take(std::string_view key, std::string_view value) {
    switch (static_cast<keys::Kind>(key.front())) {
      case keys::Kind::kGarbage:
      case keys::Kind::kGarbageDue:
        // Its server may have become a chunk's only holder again since. What is garbage still, it will report.
        return {};
      case keys::Kind::kCounters:
        return take_counters(value);
      default:
        return put(key, value);
    }
  }
  Result<void> finish() {
    Result<void> written = store_.write(batch_, true);
    batch_.clear();
    return written;
  }

 private:
  Result<void> take_counters(std::string_view value) {
    CounterRecord counters;
    if (Result<void> read = decode(value, counters); !read) return read;
    counters.garbage = 0;
    return put(keys::counters(), encode(counters));
  }
  Result<void> put(std::string_view key, std::string_view value) {
    batch_.put(key, value);
    bytes_ += key.size() + value.size();
    if (bytes_ < kBatchBytes) return {};
    Result<void> written = store_.write(batch_, false);
    batch_.clear();
    bytes_ = 0;
    return written;
  }

  KvStore& store_;
  WriteBatch batch_;
  size_t bytes_ = 0;
};

// The machine's part: the first commands on the new state.
Result<void> begin_restore(KvStore& store, const ImportOptions& options, ImportResult& result) {
  Result<std::unique_ptr<Machine>> machine = Machine::open(store);
  if (!machine) return machine.error();
  const DumpHeader& header = result.dump.header;
  if ((*machine)->cluster().cluster != header.cluster || (*machine)->applied_index() != header.applied_index)
    return Error(ErrorCode::kCorrupt, "the dump's records are not those that its header names");
  LogEntry entry;
  entry.context.index = header.applied_index;
  // Chunkservers obey the highest term and believe the latest log time that they have heard.
  entry.context.term = header.applied_term + kRestoreMargin;
  entry.context.log_time_ms = header.log_time_ms + kRestoreMargin;
  entry.context.wall_ns = options.wall_ns;
  auto apply = [&](Command command) -> Result<Reply> {
    ++entry.context.index;
    entry.commands.clear();
    entry.commands.push_back(std::move(command));
    Result<std::vector<Reply>> replies = (*machine)->apply(entry);
    if (!replies) return replies.error();
    return std::move(replies->front());
  };
  Result<Reply> begun =
      apply(BeginRestore{.source = options.source, .taken_ns = static_cast<uint64_t>(header.wall_ns)});
  if (!begun) return begun.error();
  if (!*begun) return begun->error();
  if (options.more) {
    if (Result<void> done = options.more(**machine, apply); !done) return done;
  }
  const CounterRecord counters = (*machine)->counters();
  result.inodes = counters.inodes;
  result.chunks = counters.chunks;
  result.index = counters.applied_index;
  result.term = counters.applied_term;
  return {};
}

Result<void> fill(KvStore& store, const DumpSource& source, const ImportOptions& options, ImportResult& result) {
  Loader loader(store);
  Result<DumpSummary> read =
      read_dump(source, [&](std::string_view key, std::string_view value) { return loader.take(key, value); });
  if (!read) return read.error();
  result.dump = std::move(*read);
  if (Result<void> finished = loader.finish(); !finished) return finished;
  return begin_restore(store, options, result);
}

}  // namespace

Result<void> check_free_folder(Disk& disk, const std::string& folder) {
  Result<bool> there = disk.exists(folder);
  if (!there) return there.error();
  if (!*there) return {};
  Result<std::vector<std::string>> names = disk.list(folder);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    if (std::ranges::find(kLeftovers, name) == std::end(kLeftovers))
      return Error(ErrorCode::kNotEmpty, folder + " is not empty (" + name + ")");
  }
  return {};
}

DumpSource dump_source(File& file) {
  return [&file](uint64_t offset, size_t bytes) -> Result<std::string> {
    std::string out(bytes, '\0');
    size_t got = 0;
    while (got < bytes) {
      Result<size_t> read =
          file.read(offset + got, std::as_writable_bytes(std::span(out.data() + got, out.size() - got)));
      if (!read) return read.error();
      if (*read == 0) break;
      got += *read;
    }
    out.resize(got);
    return out;
  };
}

Result<ImportResult> import_dump(Disk& disk, const ImportOptions& options) {
  Result<std::unique_ptr<File>> file = disk.open(options.dump, OpenFlags{.read_only = true});
  if (!file) return file.error();
  const DumpSource source = dump_source(**file);
  // All of it is checked before anything is written.
  Result<DumpSummary> whole =
      read_dump(source, [](std::string_view, std::string_view) -> Result<void> { return {}; });
  if (!whole) return whole.error().in(options.dump);
  if (Result<void> free = check_free_folder(disk, options.folder); !free) return free.error();
  if (Result<void> made = make_durable_folder(disk, options.folder); !made) return made.error();
  const std::string scratch = options.folder + "/" + std::string(kScratch);
  if (Result<void> cleared = disk.remove_tree(scratch); !cleared) return cleared.error();
  ImportResult result;
  {
    Result<std::unique_ptr<KvStore>> store = open_store(disk, scratch, options.memory_store);
    if (!store) return store.error();
    if (Result<void> filled = fill(**store, source, options, result); !filled) return filled.error();
    const RestoredFolder restored{.folder = options.folder,
                                  .cluster = result.dump.header.cluster,
                                  .master = options.master,
                                  .address = options.address,
                                  .index = result.index,
                                  .term = result.term,
                                  .log_time_ms = result.dump.header.log_time_ms + kRestoreMargin};
    Result<void> made = make_restored_folder(
        disk, restored, options.boot_id,
        [&](const std::string& target, const std::function<void(uint64_t)>& freeze) {
          return (*store)->checkpoint(target, [&] { freeze(restored.index); });
        });
    if (!made) return made.error();
  }
  if (Result<void> cleared = disk.remove_tree(scratch); !cleared) return cleared.error();
  return result;
}

}  // namespace cairn
