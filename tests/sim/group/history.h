// What happened to a simulated group of masters, and whether it may have: every operation with its beginning and end by
// true time, and what each master applied.
//
// One thread. check_*() give "" or what is wrong.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/runtime/clock.h"
#include "master/consensus/engine.h"

namespace cairn {

class GroupHistory {
 public:
  enum class Outcome : uint8_t {
    kRunning,  // the master ended before it answered, or has not answered yet
    kDone,
    kRefused,  // "nothing happened"
    kUnknown,
  };

  // A command; its text is what text_of() says.
  uint64_t begin_command(TimePoint now);
  void end_command(uint64_t command, TimePoint now, Outcome outcome, uint64_t position);
  static std::string text_of(uint64_t command);

  // A read of how many commands there are.
  uint64_t begin_read(TimePoint now);
  void end_read(uint64_t read, TimePoint now, uint64_t count);

  // A master applied the entry and its state has this hash now. The first thing that is wrong is kept: failure().
  void applied(const std::string& master, LogIndex index, uint64_t state_hash);
  // Its log is open again and ends there. What it has applied it still holds, whatever it lost: its own disk had it
  // first.
  void opened(const std::string& master, LogIndex last);
  // It begins anew, with an empty disk.
  void forget(const std::string& master) { applied_.erase(master); }
  void leads(const std::string& master, Term term);
  const std::string& failure() const { return failure_; }

  // Against the commands that all masters hold at the end, in their order.
  std::string check(const std::vector<std::string>& commands) const;

  uint64_t done() const { return done_; }
  uint64_t reads() const;

 private:
  struct Operation {
    TimePoint begun;
    TimePoint ended = kNever;
    Outcome outcome = Outcome::kRunning;
    uint64_t position = 0;  // of a command; of a read: how many there were
  };
  std::string check_outcomes(const std::map<std::string_view, uint64_t>& positions) const;
  std::string check_order() const;

  std::vector<Operation> commands_;
  std::vector<Operation> reads_;
  uint64_t done_ = 0;
  std::map<LogIndex, uint64_t> hashes_;
  std::map<std::string, LogIndex> applied_;  // the newest entry, by each
  std::map<Term, std::string> leaders_;
  std::string failure_;
};

}  // namespace cairn
