// Journal: the batches of a MemoryStore in one file, `FOLDER/journal`, each with a checksum. docs/formats.md has the
// format: "CAIRNKV1", then records of {u32 payload size, u32 CRC32C of that size and the payload, payload}; a payload
// is a varint count of changes, each {u8 kind (1 put, 2 erase), string key, string value if put}.
//
// Blocking, one thread at a time. The Disk must outlive it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/kv/kv_store.h"
#include "common/runtime/disk.h"

namespace cairn {

class Journal {
 public:
  // Opens the folder's journal, or makes an empty one. Each whole batch goes to `replay`, in order; what follows the
  // last whole record (a batch that was being written when the machine stopped) is cut off. kCorrupt if the file is not
  // a journal.
  static Result<std::unique_ptr<Journal>> open(Disk& disk, const std::string& folder,
                                               const std::function<void(const WriteBatch&)>& replay);

  // Writes a new journal that holds what `next` gives, batch by batch (false: that was all), and puts it in the place
  // of the folder's journal, durably: after a crash there is the old one or the new.
  static Result<std::unique_ptr<Journal>> replace(Disk& disk, const std::string& folder,
                                                  const std::function<bool(WriteBatch&)>& next);

  // kNoSpace leaves the journal as it was. Any other failure is final: whether the batch is in it is unknown, and
  // everything fails from then on.
  Result<void> append(const WriteBatch& batch, bool sync);
  uint64_t size_bytes() const { return size_bytes_; }

 private:
  Journal(std::unique_ptr<File> file, uint64_t size_bytes) : file_(std::move(file)), size_bytes_(size_bytes) {}

  std::unique_ptr<File> file_;
  uint64_t size_bytes_;
  bool broken_ = false;
};

}  // namespace cairn
