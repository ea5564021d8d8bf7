// SnapshotStore: durable checkpoints of the state, each a folder checkpoints/INDEX-TERM with the state's files and a
// manifest that lists them with their checksums (docs/formats.md, "Master's log"). The newest two are kept: if one
// cannot be read, the other and the log still give everything.
//
// Blocking. make() and remove_old() are for one thread, newest() and the like for any. Lifetime: the Disk outlives the
// store.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/runtime/disk.h"

namespace cairn {

// What a checkpoint stands for.
struct CheckpointMeta {
  uint64_t index = 0;  // it holds at least all entries up to this one
  uint64_t term = 0;   // of that entry
  uint64_t log_time_ms = 0;
  std::string configuration;  // the group's, as libraft encodes it
  uint64_t configuration_index = 0;
};

struct CheckpointFile {
  std::string name;
  uint64_t size = 0;
  uint32_t crc = 0;
};

struct Checkpoint {
  CheckpointMeta meta;
  std::string boot_id;  // of the machine when it was made; for people
  std::vector<CheckpointFile> files;
  std::string folder;  // its own
};

class SnapshotStore {
 public:
  // Reads what is there; what was left unfinished is removed. A checkpoint whose manifest is damaged is passed over
  // with a warning.
  static Result<std::unique_ptr<SnapshotStore>> open(Disk& disk, std::string folder, ClusterId cluster);

  // `write` makes the copy in the folder that it is given and calls freeze() while the state cannot change, with the
  // last entry in it; `position` is asked inside freeze(). Nothing is left behind on an error. Returns the checkpoint
  // that is newest afterwards: an older one if nothing has changed since.
  using Write = std::function<Result<void>(const std::string& target, const std::function<void(uint64_t)>& freeze)>;
  Result<Checkpoint> make(const Write& write, const std::function<CheckpointMeta(uint64_t)>& position,
                          std::string_view boot_id);

  // Removes all but the newest two, and the one at index `pinned`.
  Result<void> remove_old(uint64_t pinned = 0);

  // A checkpoint that comes from another master, file by file, in the folder checkpoints/incoming: begin_incoming()
  // keeps what is there of the same one (how much of each file: incoming_bytes); check_incoming() reads every byte and
  // makes it durable (kCorrupt: a file is not what the manifest says; it is removed, and may be sent again);
  // take_incoming() puts it among the others.
  Result<void> begin_incoming(const Checkpoint& checkpoint);
  Result<uint64_t> incoming_bytes(const std::string& file) const;
  Result<void> write_incoming(const std::string& file, uint64_t offset, std::string_view bytes);
  Result<void> check_incoming(const Checkpoint& checkpoint);
  Result<void> take_incoming(const Checkpoint& checkpoint);

  // Part of a file of a checkpoint that is there. kNotFound if it is not (any more).
  Result<std::string> read_part(uint64_t index, uint64_t term, const std::string& file, uint64_t offset,
                                uint32_t length) const;

  // A checkpoint's manifest, as it stands in its folder and goes to other masters. kCorrupt, kNotSupported,
  // kWrongCluster.
  std::string encode_manifest(const Checkpoint& checkpoint) const;
  Result<Checkpoint> decode_manifest(std::string_view bytes, const std::string& path) const;

  // Newest first.
  std::vector<Checkpoint> all() const;
  std::optional<Checkpoint> newest() const;
  // Up to which index the log is needed by no checkpoint. 0 until there are two: one alone may turn out to be damaged.
  uint64_t log_not_needed_upto() const;

  // Copies the state's files to the new folder `target`, not synced, checking each byte. kCorrupt: this checkpoint is
  // damaged.
  Result<void> restore(const Checkpoint& checkpoint, const std::string& target);

 private:
  SnapshotStore(Disk& disk, std::string folder, ClusterId cluster)
      : disk_(disk), folder_(std::move(folder)), cluster_(cluster) {}
  Result<Checkpoint> read_manifest(const std::string& name) const;
  Result<void> write_manifest(const std::string& folder, const Checkpoint& checkpoint) const;
  Result<void> put_among_others(const std::string& unfinished, Checkpoint& checkpoint);
  Result<std::vector<CheckpointFile>> sum_files(const std::string& folder) const;

  Disk& disk_;
  const std::string folder_;
  const ClusterId cluster_;
  mutable std::mutex mutex_;
  std::vector<Checkpoint> checkpoints_;  // under mutex_; newest first
};

}  // namespace cairn
