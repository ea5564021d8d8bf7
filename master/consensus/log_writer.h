// LogWriter: the thread "log". What is handed to it is written and synced in the order given; everything that waits
// when the thread gets to it shares one sync.
//
// Loop thread only. The store outlives the writer; the destructor waits for what runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/runtime/world.h"
#include "master/consensus/log_store.h"
#include "master/consensus/raft_entry.h"
#include "master/consensus/slow_steps.h"

namespace cairn {

class LogWriter {
 public:
  // Both on the loop. `durable`: everything up to the item of that number is on disk. `failed`: once; nothing is
  // written any more.
  struct Callbacks {
    std::function<void(uint64_t number)> durable;
    std::function<void(const Error&)> failed;
  };
  LogWriter(World& world, LogStore& store, Callbacks callbacks);
  ~LogWriter();

  // Each returns the item's number; they count up from 1.
  uint64_t write(RaftEntryPtr entry);
  uint64_t write_term(Term term, uint64_t voted_for);

  uint64_t last_number() const { return last_number_; }
  uint64_t durable_number() const { return durable_number_; }

 private:
  struct Item {
    RaftEntryPtr entry;  // null: term and vote
    Term term = 0;
    uint64_t voted_for = 0;
  };
  // What the loop and the thread share; it outlives the writer in the completions that the loop has not run yet.
  struct Shared {
    explicit Shared(Clock& clock) : slow(clock, "log") {}
    SlowSteps slow;  // the thread's
    std::mutex mutex;
    std::vector<Item> waiting;
    uint64_t written_number = 0;
    std::optional<Error> error;
  };
  uint64_t enqueue(Item item);
  static void write_waiting(Shared& shared, LogStore& store);
  void finished();

  LogStore& store_;
  Callbacks callbacks_;
  uint64_t last_number_ = 0;
  uint64_t durable_number_ = 0;
  bool failed_ = false;
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<bool> alive_ =
      std::make_shared<bool>(true);  // completions hold it weakly: they may run after the writer is gone
  std::unique_ptr<BlockingPool> pool_;
};

}  // namespace cairn
