#include "common/kv/journal.h"

#include <span>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"

namespace cairn {
namespace {

constexpr std::string_view kMagic = "CAIRNKV1";
constexpr size_t kRecordHeaderBytes = 8;
constexpr uint8_t kPut = 1;
constexpr uint8_t kErase = 2;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string encode_record(const WriteBatch& batch) {
  ByteWriter payload;
  payload.varint(batch.changes().size());
  for (const WriteBatch::Change& change : batch.changes()) {
    payload.u8(change.value ? kPut : kErase);
    payload.string(change.key);
    if (change.value) payload.string(*change.value);
  }
  ByteWriter size;
  size.u32(static_cast<uint32_t>(payload.size()));
  // The size is summed too: a header of zeros is not a valid record.
  uint32_t crc = crc32c(payload.str(), crc32c(size.str()));
  ByteWriter record;
  record.bytes(size.str());
  record.u32(crc);
  record.bytes(payload.str());
  return record.take();
}

bool decode_payload(std::string_view payload, WriteBatch& batch) {
  ByteReader reader(payload);
  uint64_t count = reader.varint();
  for (uint64_t i = 0; i < count && reader.ok(); i++) {
    uint8_t kind = reader.u8();
    std::string_view key = reader.string();
    if (kind == kPut) {
      std::string_view value = reader.string();
      if (reader.ok()) batch.put(key, value);
    } else if (kind == kErase) {
      if (reader.ok()) batch.erase(key);
    } else {
      return false;
    }
  }
  return reader.finish("batch").has_value();
}

// The size of the record that `rest` starts with; 0 if there is no whole one.
size_t next_record(std::string_view rest, WriteBatch& batch) {
  ByteReader header(rest);
  uint32_t size = header.u32();
  uint32_t crc = header.u32();
  if (!header.ok() || size > header.remaining()) return 0;
  std::string_view payload = header.bytes(size);
  if (crc32c(payload, crc32c(rest.substr(0, 4))) != crc) return 0;
  return decode_payload(payload, batch) ? kRecordHeaderBytes + size : 0;
}

}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(Disk& disk, const std::string& folder,
                                               const std::function<void(const WriteBatch&)>& replay) {
  std::string path = folder + "/journal";
  Result<bool> there = disk.exists(path);
  if (!there) return there.error();
  if (!*there) return replace(disk, folder, [](WriteBatch&) { return false; });

  Result<std::string> content = read_file(disk, path);
  if (!content) return content.error();
  // A journal gets its name when its first bytes are durable: anything else was never one.
  if (!content->starts_with(kMagic)) return Error(ErrorCode::kCorrupt, path + ": not a journal");
  size_t end = kMagic.size();
  while (end < content->size()) {
    WriteBatch batch;
    size_t size = next_record(std::string_view(*content).substr(end), batch);
    if (size == 0) break;
    replay(batch);
    end += size;
  }

  Result<std::unique_ptr<File>> file = disk.open(path, {});
  if (!file) return file.error();
  if (end < content->size()) {
    log_warning("kv.journal_cut", "path={} bytes={} kept={}", quoted(path), content->size() - end, end);
    // Durably, before anything is written behind it: whole records may stand in what is cut off, and must not come
    // back.
    Result<void> cut = (*file)->truncate(end);
    if (!cut) return cut.error();
    Result<void> synced = (*file)->sync();
    if (!synced) return synced.error();
  }
  return std::unique_ptr<Journal>(new Journal(std::move(*file), end));
}

Result<std::unique_ptr<Journal>> Journal::replace(Disk& disk, const std::string& folder,
                                                  const std::function<bool(WriteBatch&)>& next) {
  std::string temporary = folder + "/journal.new";
  Result<std::unique_ptr<File>> file = disk.open(temporary, {.create = true, .truncate = true});
  if (!file) return file.error();
  auto fill = [&]() -> Result<uint64_t> {
    uint64_t end = kMagic.size();
    Result<void> written = (*file)->write(0, bytes_of(kMagic));
    if (!written) return written.error();
    WriteBatch batch;
    while (next(batch)) {
      std::string record = encode_record(batch);
      batch.clear();
      written = (*file)->write(end, bytes_of(record));
      if (!written) return written.error();
      end += record.size();
    }
    Result<void> synced = (*file)->sync();
    if (!synced) return synced.error();
    return end;
  };
  Result<uint64_t> end = fill();
  if (!end) {
    (void)disk.remove(temporary);  // it has no meaning, and its space may be what is missing
    return end.error();
  }
  Result<void> renamed = disk.rename(temporary, folder + "/journal");
  if (!renamed) return renamed.error();
  Result<void> synced = disk.sync_folder(folder);
  if (!synced) return synced.error();
  return std::unique_ptr<Journal>(new Journal(std::move(*file), *end));
}

Result<void> Journal::append(const WriteBatch& batch, bool sync) {
  if (broken_) return Error(ErrorCode::kIo, "the journal failed before");
  std::string record = encode_record(batch);
  Result<void> written = file_->write(size_bytes_, bytes_of(record));
  if (!written) {
    Result<void> cut = file_->truncate(size_bytes_);
    broken_ = !cut || written.code() != ErrorCode::kNoSpace;
    return written;
  }
  size_bytes_ += record.size();
  if (!sync) return {};
  Result<void> synced = file_->sync();
  broken_ = !synced;
  return synced;
}

}  // namespace cairn
