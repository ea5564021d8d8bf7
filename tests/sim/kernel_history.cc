#include "tests/sim/kernel_history.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace cairn {

namespace {
constexpr TimePoint kAlways{};

char filler(uint64_t write, uint64_t cell) {
  return static_cast<char>('a' + (write * 31 + cell * 7) % 26);
}
}  // namespace

std::string cells_of(uint64_t write, uint64_t offset, uint64_t bytes) {
  std::string out(bytes, '\0');
  if (write == 0) return out;
  for (uint64_t at = 0; at < bytes; at += kCellBytes) {
    uint64_t cell = (offset + at) / kCellBytes;
    std::fill_n(out.begin() + static_cast<ptrdiff_t>(at), kCellBytes, filler(write, cell));
    std::memcpy(out.data() + at, &write, sizeof write);
    std::memcpy(out.data() + at + sizeof write, &cell, sizeof cell);
  }
  return out;
}

std::optional<uint64_t> write_of(std::string_view cell, uint64_t offset) {
  uint64_t write = 0;
  std::memcpy(&write, cell.data(), sizeof write);
  if (cell != cells_of(write, offset, kCellBytes)) return std::nullopt;
  return write;
}

Register::Register(uint64_t value) {
  changes_[0] = {.value = value, .began = kAlways, .ended = kAlways, .sure = true};
}

Register::Change Register::begin(uint64_t value, TimePoint now, std::vector<uint64_t> on_the_way) {
  changes_[next_] = {.value = value, .began = now, .on_the_way = std::move(on_the_way)};
  return next_++;
}

void Register::acknowledge(Change change, TimePoint now) {
  One& one = changes_.at(change);
  one.ended = std::min(one.ended, now);
  one.sure = true;
}

void Register::acknowledge(Change change, TimePoint now, uint64_t value) {
  changes_.at(change).value = value;
  acknowledge(change, now);
}

void Register::refuse(Change change) {
  changes_.erase(change);
}

void Register::unsure(Change change, TimePoint until) {
  One& one = changes_.at(change);
  one.ended = std::min(one.ended, until);
}

bool Register::replaced(const One& one, TimePoint before) const {
  return std::ranges::any_of(changes_, [&](const auto& item) {
    const One& other = item.second;
    return other.sure && other.began > one.ended && other.ended <= before;
  });
}

bool Register::may_be(TimePoint begin, TimePoint end, const std::function<bool(uint64_t)>& fits, bool fresh) {
  return std::ranges::any_of(changes_, [&](const auto& item) {
    const One& one = item.second;
    if (one.began > end || replaced(one, begin)) return false;
    bool value = one.value == kUnknown ? fresh : fits(one.value);
    return value || (one.ended >= begin && std::ranges::any_of(one.on_the_way, fits));
  });
}

bool Register::may_be(TimePoint begin, TimePoint end, uint64_t value, bool fresh) {
  auto is = [value](uint64_t one) { return one == value; };
  bool may = may_be(begin, end, is, fresh);
  if (!may || !fresh) return may;
  std::vector<One*> unknown;
  for (auto& [number, one] : changes_) {
    if (one.value == kUnknown && one.began <= end) unknown.push_back(&one);
  }
  if (unknown.size() == 1) unknown.front()->value = value;
  return true;
}

std::optional<uint64_t> Register::settled() const {
  std::optional<uint64_t> value;
  for (const auto& [number, one] : changes_) {
    if (replaced(one, kNever)) continue;
    if (!one.sure || one.value == kUnknown || one.ended == kNever || value) return std::nullopt;
    value = one.value;
  }
  return value;
}

void Register::forget_before(TimePoint horizon) {
  std::vector<Change> gone;
  for (const auto& [number, one] : changes_) {
    if (replaced(one, horizon)) gone.push_back(number);
  }
  for (Change change : gone)
    changes_.erase(change);
}

std::string Register::describe() const {
  auto text = [](TimePoint time) {
    if (time == kNever) return std::string("...");
    return fmt::format("{:.6f}", std::chrono::duration<double>(time.time_since_epoch()).count());
  };
  std::string out;
  for (const auto& [number, one] : changes_) {
    std::string value = one.value == kUnknown ? "new" : std::to_string(one.value);
    out += fmt::format(" {}{} from {} to {};", one.sure ? "" : "perhaps ", value, text(one.began), text(one.ended));
  }
  return out;
}

Register& FileHistory::cell(uint64_t index) {
  return cells.try_emplace(index, 0).first->second;
}

}  // namespace cairn
