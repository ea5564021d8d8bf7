// RecordReader: typed access to the records, for the operations (transaction.h) and for the reads (machine.h).
//
// A failure of what is below (the store's, a record that cannot be decoded, kNotCached) is kept and looked at once at the end: until then
// every record looks absent. So an operation only deals with what the tree itself can say. Not thread-safe; short-lived.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "master/namespace/keys.h"
#include "master/namespace/records.h"

namespace cairn {

class RecordReader {
 public:
  // Gets a key and its value; false ends the scan.
  using Visit = std::function<bool(std::string_view, std::string_view)>;

  RecordReader() = default;
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;
  virtual ~RecordReader() = default;

  std::optional<InodeRecord> inode(InodeId id) const;  // with attributes.inode set
  std::optional<DentryRecord> dentry(InodeId parent, std::string_view name) const;
  std::optional<CookieRecord> cookie(InodeId parent, uint64_t cookie) const;
  std::optional<ChunkRef> ref(InodeId inode, uint32_t index) const;  // dead ones too: see alive()
  std::optional<std::string> xattr(InodeId inode, std::string_view name) const;
  std::optional<ChunkRecord> chunk(ChunkId id) const;
  std::optional<SessionRecord> session(SessionId id) const;
  std::optional<ServerRecord> server(ServerId id) const;
  std::optional<OrphanRecord> orphan(InodeId id) const;
  std::optional<GarbageRecord> garbage(ServerId server, ChunkId chunk) const;
  std::optional<ClusterRecord> cluster() const;

  std::optional<std::string> raw(std::string_view key) const;
  bool exists(std::string_view key) const { return raw(key).has_value(); }
  // Records whose key begins with `prefix`, from the first key >= `from` on, in order. The reader may be used from within `visit`; a
  // Transaction may not be changed.
  void scan(std::string_view prefix, std::string_view from, const Visit& visit) const;

  bool failed() const { return failure_.has_value(); }
  const Error& failure() const { return *failure_; }

 protected:
  virtual Result<std::optional<std::string>> load(std::string_view key) const = 0;
  virtual Result<void> load_range(std::string_view prefix, std::string_view from, const Visit& visit) const = 0;

 private:
  template <class Record>
  std::optional<Record> find(std::string_view key) const;
  void fail(const Error& error) const;

  mutable std::optional<Error> failure_;
};

// False for a ref that a large truncate has cut off and nobody has removed yet.
bool alive(const InodeRecord& inode, uint32_t index, const ChunkRef& ref);

}  // namespace cairn
