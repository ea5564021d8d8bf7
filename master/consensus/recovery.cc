#include "master/consensus/recovery.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/kv/folder.h"
#include "master/consensus/raft_core.h"
#include "master/proto/log_entry.h"

namespace cairn {

namespace {

constexpr uint64_t kFirstSegmentBytes =
    64 * kKiB;  // what initialising writes is small; the next segment has its full size
constexpr std::string_view kWaysOut =
    "Ways out: with other masters, remove this one from the group and add it again with an empty folder; else restore "
    "the folder from a copy";

class Recovery {
 public:
  Recovery(Disk& disk, const ReplicatedLogOptions& options, const std::string& boot_id, StateMachine& machine,
           RecoveredMaster& out)
      : disk_(disk), options_(options), boot_id_(boot_id), machine_(machine), out_(out) {}

  Result<void> run() {
    Result<void> step = open_stores();
    if (step) step = collect_changes();
    if (step) step = raise_term_of_sole_voter();
    if (step) step = open_state();
    if (!step) return step;
    step = find_position();
    if (!step) machine_.close();
    return step;
  }

 private:
  Result<void> open_stores();
  Result<void> take_replacement();
  Result<void> collect_changes();
  Result<void> raise_term_of_sole_voter();
  Result<void> open_state();
  Result<bool> open_state_in_place();
  Result<bool> open_state_from(const Checkpoint* checkpoint);
  Result<void> check_state(LogIndex index) const;
  Result<void> find_position();
  Result<std::optional<LogEntryFields>> fields_at_or_before(LogIndex index) const;

  LogIndex last_index() const { return out_.entries.first_index + out_.entries.entries.size() - 1; }

  Disk& disk_;
  const ReplicatedLogOptions& options_;
  const std::string& boot_id_;
  StateMachine& machine_;
  RecoveredMaster& out_;
};

Result<void> Recovery::open_stores() {
  const MasterIdentity& identity = out_.folder.identity();
  Result<std::unique_ptr<SnapshotStore>> checkpoints =
      SnapshotStore::open(disk_, out_.folder.checkpoints_folder(), identity.cluster);
  if (!checkpoints) return checkpoints.error();
  out_.checkpoints = std::move(*checkpoints);
  LogStoreOptions log_options{.folder = out_.folder.log_folder(),
                              .cluster = identity.cluster,
                              .master = identity.master,
                              .segment_size_bytes = options_.segment_size_bytes};
  Result<std::unique_ptr<LogStore>> log = LogStore::open(disk_, std::move(log_options), out_.entries);
  if (!log) return log.error();
  out_.log = std::move(*log);
  if (out_.entries.term == 0) {
    return Error(ErrorCode::kCorrupt,
                 out_.folder.log_folder() + " is empty, and this master is not new. " + std::string(kWaysOut));
  }
  Result<void> replaced = take_replacement();
  if (!replaced) return replaced;
  std::optional<Checkpoint> newest = out_.checkpoints->newest();
  if (newest && newest->meta.index > last_index()) {
    return Error(ErrorCode::kCorrupt, out_.folder.log_folder() + " ends at entry " + std::to_string(last_index()) +
                                          ", before the checkpoint " + newest->folder +
                                          ": its newest segments are missing. " + std::string(kWaysOut));
  }
  // Before anything is written: a full disk shows here and not in the middle of an entry.
  Result<void> prepared = out_.log->prepare_spare();
  if (!prepared && prepared.code() != ErrorCode::kNoSpace) return prepared;
  return {};
}

// A checkpoint of another master takes the place of log and state. Each step may be done again after a crash.
Result<void> Recovery::take_replacement() {
  Result<std::optional<MasterFolder::Replacement>> wanted = out_.folder.replacement();
  if (!wanted) return wanted.error();
  if (!wanted->has_value()) return {};
  for (const Checkpoint& checkpoint : out_.checkpoints->all()) {
    if (checkpoint.meta.index != (*wanted)->index || checkpoint.meta.term != (*wanted)->term) continue;
    Result<void> forgotten = out_.folder.forget_state();
    if (!forgotten) return forgotten;
    Record reset{.type = RecordType::kReset, .index = checkpoint.meta.index, .term = checkpoint.meta.term};
    Result<void> written = out_.log->append(std::span(&reset, 1));
    if (!written) return written;
    out_.entries.first_index = checkpoint.meta.index + 1;
    out_.entries.entries.clear();
    log_info("master.log_replaced", "index={} term={}", checkpoint.meta.index, checkpoint.meta.term);
    break;
  }
  // Not there: the process ended before the checkpoint was whole.
  return out_.folder.replaced();
}

Result<void> Recovery::collect_changes() {
  const RecoveredLog& log = out_.entries;
  for (size_t i = 0; i < log.entries.size(); ++i) {
    if (log.entries[i].type != CAIRN_RAFT_CHANGE) continue;
    Result<std::vector<StoredEntry>> entry = out_.log->read(log.first_index + i, 1);
    if (!entry) return entry.error();
    out_.changes.push_back(std::move(entry->front()));
  }
  return {};
}

// libraft starts a sole voter in the term it had, although an entry of that term may have been sent and lost here
// (design.md 3.5, M1).
Result<void> Recovery::raise_term_of_sole_voter() {
  std::string configuration;
  std::optional<Checkpoint> newest = out_.checkpoints->newest();
  if (newest) configuration = newest->meta.configuration;
  if (!out_.changes.empty() && (!newest || out_.changes.back().index > newest->meta.configuration_index)) {
    configuration = out_.changes.back().payload;
  }
  // A master that is to be added has heard of no group yet.
  if (configuration.empty() && !newest && out_.entries.first_index == 1 && out_.entries.entries.empty()) return {};
  if (configuration.empty())
    return Error(ErrorCode::kCorrupt, "neither the log nor a checkpoint says who belongs to the group");
  unsigned n_voters = 0;
  bool is_voter = false;
  int status = cairn_raft_inspect_configuration(configuration.data(), configuration.size(),
                                                out_.folder.identity().master.value, &n_voters, &is_voter);
  if (status != 0) return Error(ErrorCode::kCorrupt, "the group's configuration cannot be decoded");
  if (n_voters != 1 || !is_voter) return {};
  Record raised{.type = RecordType::kTermAndVote, .index = 0, .term = out_.entries.term + 1};
  Result<void> written = out_.log->append(std::span(&raised, 1));
  if (!written) return written;
  out_.entries.term = raised.term;
  out_.entries.voted_for = 0;
  return {};
}

// What the state says it holds must be in the log, and what comes after it too.
Result<void> Recovery::check_state(LogIndex index) const {
  if (index > last_index()) {
    return Error(ErrorCode::kCorrupt, "the state holds entry " + std::to_string(index) + ", but " +
                                          out_.folder.log_folder() + " ends at " + std::to_string(last_index()) +
                                          ": acknowledged changes are missing from the log. " + std::string(kWaysOut));
  }
  return {};
}

// False if there is nothing that may be opened in place.
Result<bool> Recovery::open_state_in_place() {
  Result<std::optional<std::string>> boot_id = out_.folder.state_boot_id();
  if (!boot_id) return boot_id.error();
  if (!boot_id->has_value() || **boot_id != boot_id_) return false;
  Result<LogIndex> index = machine_.open(out_.folder.state_folder());
  if (!index) {
    log_warning("state.unusable", "folder={} error={}", out_.folder.state_folder(), quoted(index.error().message()));
    return false;
  }
  Result<void> checked = check_state(*index);
  if (!checked) {
    machine_.close();
    return checked.error();
  }
  if (*index + 1 < out_.entries.first_index) {
    log_warning("state.too_old", "folder={} index={} log_first={}", out_.folder.state_folder(), *index,
                out_.entries.first_index);
    machine_.close();
    return false;
  }
  out_.state_index = *index;
  return true;
}

// False if this checkpoint is damaged. Null: an empty state.
Result<bool> Recovery::open_state_from(const Checkpoint* checkpoint) {
  Result<void> cleared = disk_.remove_tree(out_.folder.state_folder());
  if (!cleared) return cleared.error();
  if (checkpoint != nullptr) {
    Result<void> restored = out_.checkpoints->restore(*checkpoint, out_.folder.state_folder());
    if (restored.failed_with(ErrorCode::kCorrupt)) {
      log_error("checkpoint.damaged", "folder={} error={}", checkpoint->folder, quoted(restored.error().message()));
      return false;
    }
    if (!restored) return restored.error();
  }
  Result<LogIndex> index = machine_.open(out_.folder.state_folder());
  if (index.failed_with(ErrorCode::kCorrupt) && checkpoint != nullptr) {
    log_error("checkpoint.damaged", "folder={} error={}", checkpoint->folder, quoted(index.error().message()));
    return false;
  }
  if (!index) return index.error();
  Result<void> checked = check_state(*index);
  if (checked) checked = out_.folder.set_state_boot_id(boot_id_);
  if (!checked) {
    machine_.close();
    return checked.error();
  }
  // The machine counts commands only; the checkpoint may stand at an entry of another type.
  out_.state_index = checkpoint == nullptr ? *index : std::max(*index, checkpoint->meta.index);
  return true;
}

Result<void> Recovery::open_state() {
  Result<bool> opened = open_state_in_place();
  if (!opened) return opened.error();
  if (*opened) return {};
  out_.state_rebuilt = true;
  Result<void> forgotten = out_.folder.forget_state();
  if (!forgotten) return forgotten;
  for (const Checkpoint& checkpoint : out_.checkpoints->all()) {
    if (checkpoint.meta.index + 1 < out_.entries.first_index) break;
    opened = open_state_from(&checkpoint);
    if (!opened) return opened.error();
    if (*opened) return {};
  }
  if (out_.entries.first_index != 1) {
    return Error(ErrorCode::kCorrupt, "no checkpoint in " + out_.folder.checkpoints_folder() +
                                          " can be read, and the log begins only at entry " +
                                          std::to_string(out_.entries.first_index) + ". " + std::string(kWaysOut));
  }
  opened = open_state_from(nullptr);
  if (!opened) return opened.error();
  return {};
}

// The fields of the last command entry in the log up to `index`.
Result<std::optional<LogEntryFields>> Recovery::fields_at_or_before(LogIndex index) const {
  const RecoveredLog& log = out_.entries;
  for (; index >= log.first_index; --index) {
    if (log.entries[index - log.first_index].type != CAIRN_RAFT_COMMAND) continue;
    Result<std::vector<StoredEntry>> entry = out_.log->read(index, 1);
    if (!entry) return entry.error();
    Result<LogEntryFields> fields = decode_log_entry_fields(entry->front().payload);
    if (!fields) return fields.error().in("log entry " + std::to_string(index));
    return std::optional<LogEntryFields>(*fields);
  }
  return std::optional<LogEntryFields>();
}

Result<void> Recovery::find_position() {
  const RecoveredLog& log = out_.entries;
  // The checkpoint that the state comes from, or a later one: where the log does not reach back far enough it has the
  // answer.
  for (const Checkpoint& checkpoint : out_.checkpoints->all()) {
    out_.last_log_time_ms = std::max(out_.last_log_time_ms, checkpoint.meta.log_time_ms);
    if (checkpoint.meta.index <= out_.state_index && checkpoint.meta.index >= out_.position.index)
      out_.position = checkpoint.meta;
  }
  for (const StoredEntry& change : out_.changes) {
    if (change.index > out_.state_index || change.index <= out_.position.configuration_index) continue;
    out_.position.configuration = change.payload;
    out_.position.configuration_index = change.index;
  }
  out_.position.index = out_.state_index;
  if (out_.state_index >= log.first_index) out_.position.term = log.entries[out_.state_index - log.first_index].term;
  Result<std::optional<LogEntryFields>> at_state = fields_at_or_before(out_.state_index);
  if (!at_state) return at_state.error();
  if (*at_state) out_.position.log_time_ms = (*at_state)->log_time_ms;
  Result<std::optional<LogEntryFields>> at_end = fields_at_or_before(last_index());
  if (!at_end) return at_end.error();
  if (*at_end) out_.last_log_time_ms = std::max(out_.last_log_time_ms, (*at_end)->log_time_ms);
  return {};
}

}  // namespace

Result<RecoveredMaster> recover_master(Disk& disk, const ReplicatedLogOptions& options, const std::string& boot_id,
                                       StateMachine& machine) {
  Result<MasterFolder> folder = MasterFolder::open(disk, options.folder, options.cluster);
  if (!folder) return folder.error();
  RecoveredMaster recovered(std::move(*folder));
  Result<void> done = Recovery(disk, options, boot_id, machine, recovered).run();
  if (!done) return done.error();
  return recovered;
}

static Result<void> initialise_folder(Disk& disk, const std::string& folder, ClusterId cluster, MasterId master,
                                      const std::string& address, bool first) {
  CHECK(cluster && master);
  Result<void> made = make_durable_folder(disk, folder);
  if (!made) return made;
  Result<std::unique_ptr<FolderLock>> lock = disk.lock_folder(folder);
  if (!lock) return lock.error().in("master folder " + folder);
  Result<MasterIdentity> there = read_master_identity(disk, folder);
  if (there)
    return Error(ErrorCode::kExists, folder + " belongs to master " + to_string(there->master) + " of cluster " +
                                         to_string(there->cluster));
  if (there.code() != ErrorCode::kNotFound) return there.error();

  // The identity is written last: without it, what is here is left over from an attempt that did not finish.
  const std::string log_folder = folder + "/log";
  Result<void> cleared = disk.remove_tree(log_folder);
  if (!cleared) return cleared;
  RecoveredLog nothing;
  Result<std::unique_ptr<LogStore>> log = LogStore::open(
      disk, {.folder = log_folder, .cluster = cluster, .master = master, .segment_size_bytes = kFirstSegmentBytes},
      nothing);
  if (!log) return log.error();
  CairnRaftMember self{.id = master.value, .address = address.c_str(), .role = CAIRN_RAFT_VOTER};
  void* encoded = nullptr;
  size_t encoded_size = 0;
  if (cairn_raft_encode_configuration(&self, 1, &encoded, &encoded_size) != 0) {
    return Error(ErrorCode::kInvalid, "address " + address);
  }
  std::string configuration(static_cast<const char*>(encoded), encoded_size);
  std::free(encoded);
  const Record records[] = {
      {.type = RecordType::kTermAndVote, .index = 0, .term = 1},
      {.type = RecordType::kEntry, .entry_type = CAIRN_RAFT_CHANGE, .index = 1, .term = 1, .payload = configuration}};
  Result<void> written = (*log)->append(std::span(records, first ? 2 : 1));
  if (!written) return written;
  return write_master_identity(disk, folder, MasterIdentity{.cluster = cluster, .master = master, .address = address});
}

Result<void> initialise_master_folder(Disk& disk, const std::string& folder, ClusterId cluster, MasterId master,
                                      const std::string& address) {
  return initialise_folder(disk, folder, cluster, master, address, true);
}

Result<void> initialise_joining_folder(Disk& disk, const std::string& folder, ClusterId cluster, MasterId master,
                                       const std::string& address) {
  return initialise_folder(disk, folder, cluster, master, address, false);
}

}  // namespace cairn
