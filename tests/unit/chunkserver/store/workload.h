// Random work on a store, beside a plain model of what each chunk must hold: byte strings, one for each sequence since
// the last sync. Goes on until the disk fails, then says whether what survived is allowed.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/chunkserver/store/store_fixture.h"

namespace cairn {

class Workload {
 public:
  struct Sizes {
    uint32_t chunk_bytes = 300'000;  // what is written lies below
    uint32_t write_max = 120'000;
    size_t chunks = 4;
    bool clones = true;
    bool installs = true;
  };

  Workload(StoreUnderTest& t, uint64_t seed, Sizes sizes) : t_(t), random_(make_seeded_random(seed)), sizes_(sizes) {}

  // One operation. False when the disk has failed.
  bool step() {
    ++steps_;
    // Time for the store to give space back, close segments and clean.
    if (random_->chance(1, 4)) t_.world->run_for(Duration(random_->below(400'000'000)));
    if (!alive()) return false;
    uint64_t dice = random_->below(100);
    if (models_.size() < sizes_.chunks || dice < 4) return make();
    ChunkId chunk = pick();
    Model& model = models_.at(chunk);
    if (model.sealed && dice < 70) return dice < 30 && sizes_.clones ? clone(chunk) : raise(chunk);
    if (dice < 50) return write(chunk);
    if (dice < 55) return change(chunk, WriteKind::kTruncate);
    if (dice < 62) return change(chunk, WriteKind::kZero);
    if (dice < 76) return sync(chunk);
    if (dice < 82) return sync_all();
    if (dice < 85) return raise(chunk);
    if (dice < 89) return seal(chunk);
    if (dice < 92) return remove(chunk);
    if (dice < 95 && sizes_.installs) return install(chunk);
    if (dice < 97) {
      t_.world->run_for(Duration(random_->below(6'000'000'000)));
      return alive();
    }
    return read(chunk);
  }

  // Everything that was taken is readable, byte for byte.
  void check_all() {
    for (auto& [chunk, model] : models_)
      check_now(chunk, model);
  }
  // After a crash and a reopening: what is there is allowed, and becomes what must be there.
  void check_survivors() {
    for (auto it = models_.begin(); it != models_.end();) {
      it = check_survivor(it->first, it->second) ? std::next(it) : models_.erase(it);
    }
    for (ChunkId chunk : removed_) {
      EXPECT_TRUE(t_.status(chunk).failed_with(ErrorCode::kNotFound)) << "removed chunk " << chunk.value << " is back";
    }
    Result<ChunkPage> page = t_.world->wait(t_.store->list(ChunkId(), 10'000));
    ASSERT_TRUE(page);
    EXPECT_EQ(page->chunks.size(), models_.size());
  }
  void remove_all() {
    for (auto& [chunk, model] : models_) {
      Result<void> gone = t_.remove(chunk, UINT64_MAX);
      EXPECT_TRUE(gone) << gone.error().message();
    }
    models_.clear();
  }
  size_t chunks() const { return models_.size(); }
  uint64_t steps() const { return steps_; }

 private:
  struct Model {
    uint64_t version = 1;
    uint64_t version_tried = 1;
    uint64_t sequence = 0;
    std::map<uint64_t, std::string> contents;  // after each sequence, from the durable one on; up to the chunk's length
    uint64_t durable = 0;                      // sequence
    bool exists = false;                       // for sure, after a crash
    bool sealed = false;
    bool seal_tried = false;
    bool raise_tried = false;
    bool remove_tried = false;
    bool install_tried = false;
  };

  bool alive() const { return !t_.store->failed(); }
  ChunkId pick() {
    auto it = models_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_->below(models_.size())));
    return it->first;
  }
  static std::string& newest(Model& model) { return model.contents.rbegin()->second; }
  // A call failed: fine if the disk did.
  bool failed(const Error& error) {
    EXPECT_TRUE(t_.store->failed() || t_.memory().failing()) << error.message();
    return false;
  }

  bool make() {
    ChunkId chunk(next_chunk_++);
    Model& model = models_[chunk];
    model.contents[0] = "";
    return write(chunk);
  }

  bool write(ChunkId chunk) {
    Model& model = models_.at(chunk);
    if (model.sealed) return read(chunk);
    uint32_t size = 1 + static_cast<uint32_t>(random_->below(random_->chance(1, 2) ? 9000 : sizes_.write_max));
    uint32_t offset = static_cast<uint32_t>(random_->below(sizes_.chunk_bytes - size));
    if (random_->chance(1, 2)) offset -= offset % kBlockSizeBytes;
    if (random_->chance(1, 3)) size = std::max<uint32_t>(size - size % kBlockSizeBytes, 1);
    Buffer data = random_bytes(*random_, size);
    std::string next = newest(model);
    if (next.size() < offset + size) next.resize(offset + size, '\0');
    next.replace(offset, size, data.view());
    model.contents[model.sequence + 1] = std::move(next);
    Result<WriteResult> done = t_.write(chunk, model.version, model.sequence + 1, offset, data);
    if (!done) return failed(done.error());
    ++model.sequence;
    return true;
  }

  bool change(ChunkId chunk, WriteKind kind) {
    Model& model = models_.at(chunk);
    if (model.sealed) return read(chunk);
    uint32_t offset = static_cast<uint32_t>(random_->below(sizes_.chunk_bytes));
    if (random_->chance(1, 2)) offset -= offset % kBlockSizeBytes;
    uint32_t length = 1 + static_cast<uint32_t>(random_->below(sizes_.chunk_bytes - offset));
    std::string next = newest(model);
    if (kind == WriteKind::kTruncate) {
      if (next.size() > offset) next.resize(offset);
    } else if (next.size() > offset) {
      size_t part = std::min<size_t>(length, next.size() - offset);
      next.replace(offset, part, std::string(part, '\0'));
    }
    model.contents[model.sequence + 1] = std::move(next);
    Result<WriteResult> done = kind == WriteKind::kTruncate
                                   ? t_.truncate(chunk, model.version, model.sequence + 1, offset)
                                   : t_.zero(chunk, model.version, model.sequence + 1, offset, length);
    if (!done) return failed(done.error());
    ++model.sequence;
    return true;
  }

  void synced(Model& model, uint64_t sequence) {
    EXPECT_GE(sequence, model.durable);
    model.durable = sequence;
    model.exists = true;
    model.contents.erase(model.contents.begin(), model.contents.lower_bound(sequence));
  }

  bool sync(ChunkId chunk) {
    Model& model = models_.at(chunk);
    Result<WriteResult> done = t_.sync(chunk, model.version, model.sequence);
    if (!done) return failed(done.error());
    EXPECT_GE(done->synced_sequence, model.sequence);
    synced(model, model.sequence);
    return true;
  }

  bool sync_all() {
    std::vector<SyncItem> items;
    for (auto& [chunk, model] : models_)
      items.push_back({chunk, model.version, model.sequence});
    std::vector<Result<WriteResult>> done = t_.world->wait(t_.store->sync(items));
    bool good = true;
    for (size_t i = 0; i < items.size(); ++i) {
      if (done[i]) {
        synced(models_.at(items[i].chunk), items[i].sequence);
      } else {
        good = failed(done[i].error());
      }
    }
    return good;
  }

  bool raise(ChunkId chunk) {
    Model& model = models_.at(chunk);
    model.version_tried = model.version + 1;
    model.raise_tried = true;
    Result<ReplicaStatus> done = t_.raise(chunk, model.version, model.version + 1);
    if (!done) return failed(done.error());
    model.version = model.version_tried;
    model.sealed = model.seal_tried = model.raise_tried = false;
    synced(model, model.sequence);
    return true;
  }

  bool seal(ChunkId chunk) {
    Model& model = models_.at(chunk);
    model.seal_tried = true;
    Result<ReplicaStatus> done = t_.seal(chunk, model.version, model.sequence);
    if (!done) return failed(done.error());
    model.sealed = true;
    synced(model, model.sequence);
    return true;
  }

  bool remove(ChunkId chunk) {
    Model& model = models_.at(chunk);
    model.remove_tried = true;
    Result<void> done = t_.remove(chunk, model.version);
    if (!done) return failed(done.error());
    models_.erase(chunk);
    removed_.insert(chunk);
    return true;
  }

  bool clone(ChunkId source) {
    Model& from = models_.at(source);
    ChunkId target(next_chunk_++);
    Model copy;
    copy.sequence = copy.durable = from.sequence;
    copy.contents[copy.sequence] = newest(from);
    copy.version = copy.version_tried = 3;
    copy.seal_tried = true;
    Result<ReplicaStatus> done = t_.world->wait(t_.store->clone(source, from.version, target, 3, {}));
    copy.sealed = done.has_value();
    copy.exists = done.has_value();
    models_[target] = copy;
    if (!done) return failed(done.error());
    return true;
  }

  // A copy of new bytes at the next version takes the place of what is here.
  bool install(ChunkId chunk) {
    Model& model = models_.at(chunk);
    uint64_t version = model.version + 1;
    uint64_t sequence = model.sequence + 10;
    Buffer data = random_bytes(*random_, 1 + random_->below(sizes_.chunk_bytes));
    uint32_t length = static_cast<uint32_t>(data.size());
    Result<void> begun = t_.world->wait(t_.store->begin_install(chunk, version, sequence, {}));
    if (!begun) return failed(begun.error());
    std::string content(data.view());
    uint64_t taken = sequence;
    for (uint32_t at = 0; at < length;) {
      uint32_t part = std::min<uint32_t>(length - at, 65536);
      if (random_->chance(1, 3)) {
        // New writes come while it is being filled.
        Buffer fresh = random_bytes(*random_, 1 + random_->below(9000));
        uint32_t offset = static_cast<uint32_t>(random_->below(sizes_.chunk_bytes - fresh.size()));
        if (content.size() < offset + fresh.size()) content.resize(offset + fresh.size(), '\0');
        content.replace(offset, fresh.size(), fresh.view());
        Result<WriteResult> done = t_.write(chunk, version, ++taken, offset, fresh);
        if (!done) return failed(done.error());
      }
      Buffer slice = data.slice(at, part);
      Result<void> filled = t_.world->wait(t_.store->fill(chunk, version, at, {slice}, block_checksums(slice.span())));
      if (!filled) return failed(filled.error());
      at += part;
    }
    if (random_->chance(1, 5)) {
      Result<void> abandoned = t_.world->wait(t_.store->abandon_install(chunk, version));
      return abandoned ? true : failed(abandoned.error());
    }
    model.install_tried = true;
    installed_ = {version, taken, content};
    Result<ReplicaStatus> done = t_.world->wait(t_.store->finish_install(chunk, version, length, true));
    if (!done) return failed(done.error());
    model = Model();
    adopt_installed(model);
    return true;
  }
  void adopt_installed(Model& model) {
    model.version = model.version_tried = installed_.version;
    model.sequence = model.durable = installed_.sequence;
    model.contents = {{model.sequence, installed_.content}};
    model.exists = model.sealed = model.seal_tried = true;
    model.install_tried = false;
  }

  bool read(ChunkId chunk) {
    Model& model = models_.at(chunk);
    uint32_t offset = static_cast<uint32_t>(random_->below(sizes_.chunk_bytes));
    uint32_t length = static_cast<uint32_t>(random_->below(sizes_.chunk_bytes - offset));
    Result<std::string> got = t_.read(chunk, model.version, offset, length);
    if (!got) return failed(got.error());
    std::string expected = newest(model);
    expected.resize(sizes_.chunk_bytes, '\0');
    EXPECT_TRUE(*got == expected.substr(offset, length)) << "chunk " << chunk.value << " at " << offset;
    return true;
  }

  void check_now(ChunkId chunk, Model& model) {
    Result<ReplicaStatus> status = t_.status(chunk);
    ASSERT_TRUE(status) << status.error().message();
    EXPECT_EQ(status->sequence, model.sequence);
    EXPECT_EQ(status->version, model.version);
    EXPECT_EQ(status->length, newest(model).size()) << "chunk " << chunk.value;
    EXPECT_EQ(status->state == ChunkState::kSealed, model.sealed);
    Result<std::string> got = t_.read(chunk, model.version, 0, sizes_.chunk_bytes);
    ASSERT_TRUE(got) << got.error().message();
    std::string expected = newest(model);
    expected.resize(sizes_.chunk_bytes, '\0');
    EXPECT_TRUE(*got == expected) << "chunk " << chunk.value;
  }

  bool check_survivor(ChunkId chunk, Model& model) {
    Result<ReplicaStatus> status = t_.status(chunk);
    if (!status) {
      EXPECT_TRUE(status.failed_with(ErrorCode::kNotFound)) << status.error().message();
      EXPECT_TRUE(!model.exists || model.remove_tried) << "chunk " << chunk.value << " is lost";
      return false;
    }
    EXPECT_TRUE(status->complete);
    if (model.install_tried && status->version == installed_.version && status->sequence == installed_.sequence) {
      adopt_installed(model);
    }
    EXPECT_TRUE(status->version == model.version || status->version == model.version_tried);
    bool sealed = status->state == ChunkState::kSealed;
    if (model.sealed && !model.raise_tried) {
      EXPECT_TRUE(sealed);
    }
    EXPECT_TRUE(!sealed || model.seal_tried);
    auto content = model.contents.find(status->synced_sequence);
    if (content == model.contents.end()) {
      ADD_FAILURE() << "chunk " << chunk.value << " is at sequence " << status->synced_sequence << ", durable was "
                    << model.durable << " and taken " << model.sequence;
      return true;
    }
    EXPECT_EQ(status->length, content->second.size());
    Result<std::string> got = t_.read(chunk, status->version, 0, sizes_.chunk_bytes);
    EXPECT_TRUE(got) << got.error().message();
    std::string expected = content->second;
    expected.resize(sizes_.chunk_bytes, '\0');
    EXPECT_TRUE(got && *got == expected) << "chunk " << chunk.value << " at sequence " << status->synced_sequence;
    Model now;
    now.version = now.version_tried = status->version;
    now.sequence = now.durable = status->synced_sequence;
    now.contents[now.sequence] = content->second;
    now.exists = true;
    now.sealed = now.seal_tried = sealed;
    model = now;
    return true;
  }

  struct Installed {
    uint64_t version = 0;
    uint64_t sequence = 0;
    std::string content;
  };

  StoreUnderTest& t_;
  std::unique_ptr<Random> random_;
  const Sizes sizes_;
  std::map<ChunkId, Model> models_;
  std::set<ChunkId> removed_;
  Installed installed_;
  uint64_t next_chunk_ = 1;
  uint64_t steps_ = 0;
};

}  // namespace cairn
