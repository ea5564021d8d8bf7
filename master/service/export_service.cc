#include "master/service/export_service.h"

#include <utility>

#include "common/base/log.h"
#include "master/namespace/keys.h"
#include "master/namespace/records.h"

namespace cairn {

DumpMaker::DumpMaker(std::unique_ptr<KvIterator> records, std::string program, int64_t wall_ns)
    : records_(std::move(records)), program_(std::move(program)), wall_ns_(wall_ns) {}

Result<std::string> DumpMaker::next() {
  switch (state_) {
    case State::kHeader:
      return header();
    case State::kPages:
      return page();
    case State::kEnd:
      state_ = State::kEnded;
      records_.reset();
      return writer_.end();
    case State::kEnded:
      break;
  }
  return std::string();
}

Result<std::string> DumpMaker::header() {
  DumpHeader header{.wall_ns = wall_ns_, .program = program_};
  ClusterRecord cluster;
  CounterRecord counters;
  for (const std::string& key : {keys::cluster(), keys::counters()}) {
    records_->seek(key);
    if (!records_->valid() || records_->key() != key)
      return Error(ErrorCode::kUnavailable, "there is no cluster to export yet");
    Result<void> read =
        key == keys::cluster() ? decode(records_->value(), cluster) : decode(records_->value(), counters);
    if (!read) return read.error();
  }
  header.cluster = cluster.cluster;
  header.applied_index = counters.applied_index;
  header.applied_term = counters.applied_term;
  header.log_time_ms = counters.log_time_ms;
  records_->seek("");
  state_ = State::kPages;
  return writer_.header(header);
}

Result<std::string> DumpMaker::page() {
  for (; records_->valid() && !writer_.page_full(); records_->next()) {
    const auto kind = static_cast<keys::Kind>(records_->key().front());
    // Whoever held a lock has to come again after a restore.
    if (kind == keys::Kind::kLocks || kind == keys::Kind::kSessionLocks) continue;
    if (records_->key() != keys::cluster()) {
      writer_.add(records_->key(), records_->value());
      continue;
    }
    // A restored cluster makes new keys for its capabilities: those of this one stay where they are needed.
    ClusterRecord cluster;
    Result<void> read = decode(records_->value(), cluster);
    if (!read) return read.error();
    cluster.keys.clear();
    writer_.add(records_->key(), encode(cluster));
  }
  if (Result<void> intact = records_->status(); !intact) return intact.error();
  if (!records_->valid()) state_ = State::kEnd;
  if (writer_.page_empty()) return next();
  return writer_.page();
}

ExportService::ExportService(MasterCore& core, std::string program)
    : core_(core),
      program_(std::move(program)),
      pool_(core.world().make_pool("export", 1)),
      tasks_(core.world().executor(), core.world().clock()) {}

ExportService::~ExportService() = default;

void ExportService::add_handlers(RpcServer& server) {
  add_handler<ExportRequest>(server, this, &ExportService::part);
}

void ExportService::drop() {
  exports_.clear();
}

void ExportService::drop_idle() {
  const TimePoint now = core_.world().clock().now();
  std::erase_if(exports_, [now](const auto& entry) {
    return !entry.second->busy && now >= entry.second->asked + kExportIdleMax;
  });
}

Task<void> ExportService::watch() {
  watching_ = true;
  while (!exports_.empty()) {
    Result<void> slept = co_await tasks_.sleep_for(kExportIdleMax / 4);
    if (!slept) break;
    drop_idle();
  }
  watching_ = false;
}

Task<void> ExportService::stop() {
  drop();
  co_await tasks_.stop();
}

Task<Result<std::shared_ptr<ExportService::Export>>> ExportService::begin() {
  // Everything that was acknowledged before is in it.
  Result<void> current = co_await core_.log().read_barrier();
  if (!current) co_return current.error();
  drop_idle();
  if (exports_.size() >= kExportsMax) co_return Error(ErrorCode::kOverload, "too many exports at the same time");
  auto made = std::make_shared<Export>();
  made->busy = true;
  uint64_t id = core_.world().random().next_id();
  exports_[id] = made;
  const int64_t wall_ns = core_.world().clock().wall().ns;
  Machine* machine = &core_.machine();
  Result<std::unique_ptr<DumpMaker>> maker =
      co_await pool_->run([machine, wall_ns, program = program_]() -> Result<std::unique_ptr<DumpMaker>> {
        return std::make_unique<DumpMaker>(machine->records(), program, wall_ns);
      });
  if (!maker) co_return maker.error();
  made->maker = std::move(*maker);
  if (!watching_) tasks_.spawn(watch());
  log_info("master.export", "export={} index={}", id, core_.machine().applied_index());
  co_return made;
}

Task<Result<Answer<ExportReply>>> ExportService::part(ExportRequest request, RpcRequest) {
  if (!core_.leading()) co_return Error(ErrorCode::kNotLeader);
  std::shared_ptr<Export> found;
  if (request.export_id == 0) {
    Result<std::shared_ptr<Export>> begun = co_await begin();
    if (!begun) co_return begun.error();
    found = std::move(*begun);
  } else {
    drop_idle();
    auto known = exports_.find(request.export_id);
    if (known == exports_.end()) co_return Error(ErrorCode::kStale, "this export is no more");
    found = known->second;
    if (found->busy) co_return Error(ErrorCode::kOverload, "the part before is being made");
    found->busy = true;
  }
  Answer<ExportReply> answer;
  if (request.part == found->next) {
    DumpMaker* maker = found->maker.get();
    Result<std::string> made = co_await pool_->run([maker] { return maker->next(); });
    found->busy = false;
    if (!made) co_return made.error();
    found->last = std::move(*made);
    ++found->next;
  } else if (request.part + 1 != found->next) {
    found->busy = false;
    co_return Error(ErrorCode::kInvalid, "part " + std::to_string(request.part) + " of an export");
  }
  found->busy = false;
  found->asked = core_.world().clock().now();
  for (const auto& [id, known] : exports_) {
    if (known == found) answer.reply.export_id = id;
  }
  if (answer.reply.export_id == 0) co_return Error(ErrorCode::kNotLeader);  // dropped meanwhile
  answer.reply.last = found->maker->ended();
  answer.payload = {Buffer::copy_of(found->last)};
  co_return answer;
}

}  // namespace cairn
