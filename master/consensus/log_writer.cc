#include "master/consensus/log_writer.h"

#include <utility>

namespace cairn {

LogWriter::LogWriter(World& world, LogStore& store, Callbacks callbacks)
    : store_(store),
      callbacks_(std::move(callbacks)),
      shared_(std::make_shared<Shared>(world.clock())),
      pool_(world.make_pool("log", 1)) {}

LogWriter::~LogWriter() {
  alive_.reset();
}

uint64_t LogWriter::write(RaftEntryPtr entry) {
  return enqueue(Item{.entry = std::move(entry)});
}

uint64_t LogWriter::write_term(Term term, uint64_t voted_for) {
  return enqueue(Item{.term = term, .voted_for = voted_for});
}

uint64_t LogWriter::enqueue(Item item) {
  {
    std::lock_guard lock(shared_->mutex);
    shared_->waiting.push_back(std::move(item));
  }
  // One job an item, so that the thread never waits for the loop between two groups; a job whose item went with an
  // earlier group finds nothing to do.
  pool_->submit([shared = shared_, &store = store_] { write_waiting(*shared, store); },
                [this, alive = std::weak_ptr(alive_)] {
                  if (!alive.expired()) finished();
                });
  return ++last_number_;
}

void LogWriter::write_waiting(Shared& shared, LogStore& store) {
  std::vector<Item> items;
  {
    std::lock_guard lock(shared.mutex);
    if (shared.error) return;
    items.swap(shared.waiting);
  }
  if (items.empty()) return;
  std::vector<Record> records;
  records.reserve(items.size());
  for (const Item& item : items) {
    if (item.entry == nullptr) {
      records.push_back({.type = RecordType::kTermAndVote, .index = item.voted_for, .term = item.term});
    } else {
      records.push_back({.type = RecordType::kEntry,
                         .entry_type = item.entry->type,
                         .index = item.entry->index,
                         .term = item.entry->term,
                         .payload = item.entry->payload});
    }
  }
  const TimePoint begun = shared.slow.begin();
  Result<void> written = store.append(records);
  shared.slow.end(begun, records.size());
  std::lock_guard lock(shared.mutex);
  if (written) {
    shared.written_number += items.size();
  } else {
    shared.error = written.error();
  }
}

void LogWriter::finished() {
  if (failed_) return;
  uint64_t written = 0;
  {
    std::lock_guard lock(shared_->mutex);
    written = shared_->written_number;
    failed_ = shared_->error.has_value();
  }
  if (written > durable_number_) {
    durable_number_ = written;
    callbacks_.durable(written);
  }
  if (failed_) callbacks_.failed(*shared_->error);
}

}  // namespace cairn
