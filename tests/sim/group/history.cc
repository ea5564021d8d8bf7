#include "tests/sim/group/history.h"

#include <algorithm>
#include <fmt/format.h>

namespace cairn {

uint64_t GroupHistory::begin_command(TimePoint now) {
  commands_.push_back({.begun = now});
  return commands_.size() - 1;
}

void GroupHistory::end_command(uint64_t command, TimePoint now, Outcome outcome, uint64_t position) {
  commands_[command].ended = now;
  commands_[command].outcome = outcome;
  commands_[command].position = position;
  if (outcome == Outcome::kDone) ++done_;
}

std::string GroupHistory::text_of(uint64_t command) {
  return "command " + std::to_string(command);
}

uint64_t GroupHistory::begin_read(TimePoint now) {
  reads_.push_back({.begun = now});
  return reads_.size() - 1;
}

void GroupHistory::end_read(uint64_t read, TimePoint now, uint64_t count) {
  reads_[read].ended = now;
  reads_[read].outcome = Outcome::kDone;
  reads_[read].position = count;
}

void GroupHistory::applied(const std::string& master, LogIndex index, uint64_t state_hash) {
  auto [known, fresh] = hashes_.emplace(index, state_hash);
  if (!fresh && known->second != state_hash && failure_.empty())
    failure_ = fmt::format("{} has another state than others at entry {}", master, index);
  LogIndex& newest = applied_[master];
  newest = std::max(newest, index);
}

void GroupHistory::opened(const std::string& master, LogIndex last) {
  auto known = applied_.find(master);
  if (known != applied_.end() && last < known->second && failure_.empty())
    failure_ = fmt::format("{} had applied entry {} and its log ends at {} now", master, known->second, last);
}

void GroupHistory::leads(const std::string& master, Term term) {
  auto [known, fresh] = leaders_.emplace(term, master);
  if (!fresh && known->second != master && failure_.empty())
    failure_ = fmt::format("{} and {} both lead in term {}", known->second, master, term);
}

std::string GroupHistory::check(const std::vector<std::string>& commands) const {
  if (!failure_.empty()) return failure_;
  std::map<std::string_view, uint64_t> positions;
  for (size_t i = 0; i < commands.size(); ++i) {
    if (!positions.emplace(commands[i], i + 1).second) return fmt::format("'{}' was applied twice", commands[i]);
  }
  std::string wrong = check_outcomes(positions);
  return wrong.empty() ? check_order() : wrong;
}

std::string GroupHistory::check_outcomes(const std::map<std::string_view, uint64_t>& positions) const {
  for (size_t command = 0; command < commands_.size(); ++command) {
    const Operation& operation = commands_[command];
    auto found = positions.find(text_of(command));
    if (operation.outcome == Outcome::kDone && found == positions.end())
      return fmt::format("'{}' was acknowledged and is lost", text_of(command));
    if (operation.outcome == Outcome::kDone && found->second != operation.position)
      return fmt::format("'{}' was acknowledged as number {} and is number {}", text_of(command), operation.position,
                         found->second);
    if (operation.outcome == Outcome::kRefused && found != positions.end())
      return fmt::format("'{}' was refused and is number {}", text_of(command), found->second);
  }
  return {};
}

// Linearizable: what ended before another began comes before it. Commands have their position; a read stands between
// two of them.
std::string GroupHistory::check_order() const {
  struct Event {
    TimePoint at;
    bool end;
    bool read;
    size_t number;
  };
  std::vector<Event> events;
  auto add = [&events](const std::vector<Operation>& operations, bool read) {
    for (size_t i = 0; i < operations.size(); ++i) {
      if (operations[i].outcome != Outcome::kDone) continue;
      events.push_back({operations[i].begun, false, read, i});
      events.push_back({operations[i].ended, true, read, i});
    }
  };
  add(commands_, false);
  add(reads_, true);
  // What begins at the moment at which something ends counts as beside it.
  std::sort(events.begin(), events.end(),
            [](const Event& a, const Event& b) { return std::pair(a.at, a.end) < std::pair(b.at, b.end); });
  uint64_t seen = 0;  // the highest position that anybody had been told of
  std::map<std::pair<bool, size_t>, uint64_t> seen_at_begin;
  for (const Event& event : events) {
    const Operation& operation = (event.read ? reads_ : commands_)[event.number];
    if (!event.end) {
      seen_at_begin[{event.read, event.number}] = seen;
      continue;
    }
    uint64_t before = seen_at_begin[{event.read, event.number}];
    if (event.read && operation.position < before)
      return fmt::format("read {} saw {} commands after {} had been told of", event.number, operation.position, before);
    if (!event.read && operation.position <= before)
      return fmt::format("'{}' is number {}, but {} were known before it was asked for", text_of(event.number),
                         operation.position, before);
    seen = std::max(seen, operation.position);
  }
  return {};
}

uint64_t GroupHistory::reads() const {
  return static_cast<uint64_t>(std::ranges::count(reads_, Outcome::kDone, &Operation::outcome));
}

}  // namespace cairn
