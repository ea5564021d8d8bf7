#include "common/kv/write_behind_store.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace cairn {

namespace {
constexpr size_t kBlockBytes = 64 << 10;

// When what was held could not be handed on.
class FailedIterator final : public KvIterator {
 public:
  explicit FailedIterator(Error error) : error_(std::move(error)) {}
  void seek(std::string_view) override {}
  bool valid() const override { return false; }
  void next() override { CHECK(false); }
  std::string_view key() const override { return {}; }
  std::string_view value() const override { return {}; }
  Result<void> status() const override { return error_; }

 private:
  const Error error_;
};
}  // namespace

// ---------------------------------------------------------------- what is held

std::string_view WriteBehindStore::Held::keep(std::string_view bytes) {
  if (bytes.size() > free_.size()) {
    const size_t size = std::max(bytes.size(), kBlockBytes);
    blocks_.push_back(std::make_unique_for_overwrite<char[]>(size));
    free_ = {blocks_.back().get(), size};
  }
  std::copy(bytes.begin(), bytes.end(), free_.begin());
  const std::string_view kept(free_.data(), bytes.size());
  free_ = free_.subspan(bytes.size());
  bytes_ += bytes.size();
  return kept;
}

void WriteBehindStore::Held::take(const WriteBatch& batch) {
  for (const WriteBatch::Change& change : batch.changes()) {
    auto found = slots_.find(change.key);
    if (found == slots_.end()) {
      found = slots_.emplace(keep(change.key), Slot{.value = std::nullopt, .absent_below = change.is_new}).first;
    } else if (!change.value && found->second.absent_below) {
      slots_.erase(found);  // nobody below has ever heard of it
      continue;
    }
    std::optional<std::string_view>& value = found->second.value;
    value.reset();
    if (change.value) value = keep(*change.value);
  }
}

std::optional<std::optional<std::string_view>> WriteBehindStore::Held::find(std::string_view key) const {
  auto found = slots_.find(key);
  if (found == slots_.end()) return std::nullopt;
  return found->second.value;
}

WriteBatch WriteBehindStore::Held::sorted() const {
  std::vector<std::pair<std::string_view, std::optional<std::string_view>>> all;
  all.reserve(slots_.size());
  for (const auto& [key, slot] : slots_)
    all.emplace_back(key, slot.value);
  std::ranges::sort(all, {}, [](const auto& change) { return change.first; });
  WriteBatch batch;
  batch.reserve(all.size());
  for (const auto& [key, value] : all) {
    if (value) {
      batch.put(key, *value);
    } else {
      batch.erase(key);
    }
  }
  return batch;
}

// ---------------------------------------------------------------- reading

std::optional<Result<std::string>> WriteBehindStore::find_held(std::string_view key) const {
  std::lock_guard lock(mutex_);
  std::optional<std::optional<std::string_view>> found = held_.find(key);
  if (!found && leaving_) found = leaving_->find(key);
  if (!found) return std::nullopt;
  if (!*found) return Error(ErrorCode::kNotFound);
  return std::string(**found);
}

Result<std::string> WriteBehindStore::get(std::string_view key) const {
  if (std::optional<Result<std::string>> held = find_held(key)) return std::move(*held);
  return store_->get(key);
}

Result<std::string> WriteBehindStore::get_cached(std::string_view key) const {
  if (std::optional<Result<std::string>> held = find_held(key)) return std::move(*held);
  return store_->get_cached(key);
}

std::unique_ptr<KvIterator> WriteBehindStore::iterate() const {
  std::lock_guard one_at_a_time(flush_mutex_);
  Result<void> handed_on = hand_on(false);
  if (!handed_on) return std::make_unique<FailedIterator>(handed_on.error());
  return store_->iterate();
}

// ---------------------------------------------------------------- writing

Result<void> WriteBehindStore::hand_on(bool sync) const {
  std::shared_ptr<const Held> leaving;
  {
    std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    if (held_.empty() && !sync) return {};
    leaving = leaving_ = std::make_shared<const Held>(std::exchange(held_, Held()));
  }
  Result<void> written = store_->write(leaving->sorted(), sync);
  std::lock_guard lock(mutex_);
  if (!written) {
    // It stays to be read: whoever knows of it must not see an older state.
    failure_ = written.error();
    return written;
  }
  leaving_.reset();
  return {};
}

Result<void> WriteBehindStore::write(const WriteBatch& batch, bool sync) {
  std::lock_guard one_writer(write_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (failure_) return *failure_;
    held_.take(batch);
    if (!sync && held_.bytes() < held_bytes_) return {};
  }
  std::lock_guard one_at_a_time(flush_mutex_);
  return hand_on(sync);
}

Result<void> WriteBehindStore::flush() {
  std::lock_guard one_at_a_time(flush_mutex_);
  return hand_on(false);
}

Result<void> WriteBehindStore::checkpoint(const std::string& target, const std::function<void()>& freeze) {
  // No write comes between what is handed on here and `freeze`: what that reads is what the checkpoint holds.
  std::unique_lock nobody_writes(write_mutex_);
  Result<void> flushed = flush();
  if (!flushed) return flushed;
  return store_->checkpoint(target, [&] {
    if (freeze) freeze();
    nobody_writes.unlock();
  });
}

}  // namespace cairn
