// What a write-ahead log should hold: the plain version of LogStore, to compare with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "master/consensus/log_store.h"

namespace cairn {

struct OwnedRecord {
  RecordType type = RecordType::kEntry;
  uint64_t index = 0;
  uint64_t term = 0;
  std::string payload;

  Record view() const { return {.type = type, .entry_type = 1, .index = index, .term = term, .payload = payload}; }
};

struct ModelEntry {
  uint64_t term = 0;
  std::string payload;
  bool operator==(const ModelEntry&) const = default;
};

struct LogModel {
  uint64_t first = 1;
  std::vector<ModelEntry> entries;
  uint64_t term = 0;
  uint64_t voted_for = 0;

  uint64_t last() const { return first + entries.size() - 1; }

  void take(const OwnedRecord& record) {
    switch (record.type) {
      case RecordType::kTermAndVote:
        term = record.term;
        voted_for = record.index;
        return;
      case RecordType::kReset:
        entries.clear();
        first = record.index + 1;
        return;
      case RecordType::kEntry:
        CHECK(record.index >= first && record.index <= last() + 1);
        entries.resize(record.index - first);
        entries.push_back({record.term, record.payload});
        return;
    }
  }

  // Forgets what is before `index`: the store may have more, or less, of what was purged.
  void begin_at(uint64_t index) {
    if (index <= first) return;
    CHECK(index <= last() + 1);
    entries.erase(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(index - first));
    first = index;
  }

  bool operator==(const LogModel&) const = default;
};

// What the store says after open(), with the payloads read back.
inline Result<LogModel> contents(const LogStore& store, const RecoveredLog& recovered) {
  LogModel model{.first = recovered.first_index, .term = recovered.term, .voted_for = recovered.voted_for};
  uint64_t next = model.first;
  while (next <= store.last_index()) {
    Result<std::vector<StoredEntry>> entries = store.read(next, 10'000);
    if (!entries) return entries.error();
    for (StoredEntry& entry : *entries) {
      if (entry.index != next) return Error(ErrorCode::kCorrupt, "index " + std::to_string(entry.index));
      model.entries.push_back({entry.term, std::move(entry.payload)});
      ++next;
    }
  }
  return model;
}

}  // namespace cairn
