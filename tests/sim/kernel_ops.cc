// KernelRun: what applications do, and how it is judged.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>

#include "tests/sim/kernel_run.h"
#include "tests/sim/workload_run.h"

namespace cairn {

namespace {
using namespace std::chrono_literals;
constexpr uint64_t kFileCells = 64;       // 32 KiB: eight pages
constexpr Duration kHappensWithin = 30s;  // what was asked for and not answered
constexpr size_t kOpenMax = 3;            // of a worker
constexpr uint64_t kCellsAtOnce = 20;
constexpr Duration kGivesUp = 59s;         // a request, nearly
constexpr Duration kCommittedWithin = 1s;  // what was written, by itself
constexpr uint32_t kPermissions = 0777;
}  // namespace

// ---------------------------------------------------------------- calls

KernelRun::CallPtr KernelRun::begin(size_t mount, std::string what) {
  auto call = std::make_shared<Call>();
  call->number = next_call_++;
  call->mount = mount;
  call->what = fmt::format("{} on mount{}", what, mount);
  call->begin = now();
  call->may_be_old = mounted_[mount].stopped;
  calls_[call->number] = call;
  ++result_.operations;
  tell("  " + std::to_string(call->number) + " begins: " + call->what);
  return call;
}

void KernelRun::change(const CallPtr& call, Register& target, uint64_t value, std::vector<uint64_t> on_the_way) {
  call->changes.push_back({&target, target.begin(value, now(), std::move(on_the_way))});
}

bool KernelRun::end(const CallPtr& call, int error, std::initializer_list<int> refused, uint64_t made) {
  calls_.erase(call->number);
  call->may_be_old = call->may_be_old || mounted_[call->mount].stopped;
  result_.longest = std::max(result_.longest, now() - call->begin);
  tell(fmt::format("  {} ends: {} {}", call->number, call->what, error == 0 ? "" : std::strerror(error)));
  TimePoint horizon = call->begin;
  for (const auto& [number, other] : calls_)
    horizon = std::min(horizon, other->begin);
  bool refuses = std::ranges::find(refused, error) != refused.end();
  for (const Change& one : call->changes) {
    if (error == 0 && made != 0 && &one == &call->changes.front()) {
      one.target->acknowledge(one.change, now(), made);
      known_.insert(made);
    } else if (error == 0) {
      one.target->acknowledge(one.change, now());
    } else if (refuses) {
      one.target->refuse(one.change);
    } else {
      one.target->unsure(one.change, now() + kHappensWithin);
    }
    one.target->forget_before(horizon);
  }
  for (const auto& step : call->after)
    step();
  if (error == 0 || refuses) return true;
  ++result_.errors;
  // While a single master dies again and again, a mount that died keeps its session, and what waits for its end may
  // give up after 60 s (docs/consistency.md, "Known gaps").
  bool restless = error == EIO && now() - call->begin >= kGivesUp &&
                  std::ranges::count_if(masters_changed_, [&](TimePoint when) { return when > call->begin; }) >= 3;
  if (!may_fail(error) && !restless) fail(call->what + ": " + std::strerror(error));
  return false;
}

// ---------------------------------------------------------------- what is seen

KernelRun::FileHistoryPtr KernelRun::file_of(uint64_t inode) {
  auto found = files_.find(inode);
  return found == files_.end() ? nullptr : found->second;
}

void KernelRun::seen_name(const CallPtr& call, Slot& slot, int error, uint64_t inode) {
  if (error != 0 && error != ENOENT) return;
  uint64_t value = error == ENOENT ? 0 : inode;
  bool fresh = value != 0 && !known_.contains(value);
  if (slot.value.may_be(call->begin, now(), value, fresh)) {
    auto is = [value](uint64_t one) { return one == value; };
    if (fresh && slot.value.may_be(call->begin, now(), is)) known_.insert(value);
    return;
  }
  fail(fmt::format("call {} ({}), begun at {:.6f}, sees {} as {};{}", call->number, call->what,
                   std::chrono::duration<double>(call->begin.time_since_epoch()).count(), path(slot), value,
                   slot.value.describe()));
}

void KernelRun::seen_attributes(const CallPtr& call, const SimKernel::Stat& stat) {
  FileHistoryPtr file = file_of(stat.inode);
  if (!file || (stat.mode & 0170000) != 0100000) return;
  if (!file->mode.may_be(call->begin, now(), stat.mode & kPermissions))
    fail(fmt::format("call {} ({}) sees mode {:o} of inode {};{}", call->number, call->what, stat.mode & kPermissions,
                     stat.inode, file->mode.describe()));
  if (!file->lost && !file->size.may_be(call->begin, now(), stat.size))
    fail(fmt::format("call {} ({}) sees size {} of inode {};{}", call->number, call->what, stat.size, stat.inode,
                     file->size.describe()));
}

// A read gave what there is up to here, and ended there or went no further.
void KernelRun::seen_end(const CallPtr& call, FileHistory& file, uint64_t end, bool ends) {
  if (file.lost || call->may_be_old) return;
  auto fits = [&](uint64_t one) { return ends ? one == end : one >= end; };
  if (file.size.may_be(call->begin, now(), fits)) return;
  // Beside a cut: pages from before it, and then none (as on a local disk: read(2) promises nothing about the whole).
  auto longer = [&](uint64_t one) { return one >= end; };
  auto shorter = [&](uint64_t one) { return one <= end; };
  bool torn = ends && end % kSimPageBytes == 0 && file.size.may_be(call->begin, now(), longer) &&
              file.size.may_be(call->begin, now(), shorter);
  if (torn) return;
  fail(fmt::format("call {} ({}) finds the end of inode {} {} {};{}", call->number, call->what, file.inode,
                   ends ? "at" : "beyond", end, file.size.describe()));
}

void KernelRun::seen_bytes(const CallPtr& call, FileHistory& file, uint64_t offset, const std::string& data) {
  if (file.lost || call->may_be_old) return;
  for (uint64_t at = 0; at + kCellBytes <= data.size() && !failed(); at += kCellBytes) {
    Register& cell = file.cell((offset + at) / kCellBytes);
    std::optional<uint64_t> write = write_of(std::string_view(data).substr(at, kCellBytes), offset + at);
    if (write && cell.may_be(call->begin, now(), *write)) continue;
    std::string what = write ? "write " + std::to_string(*write) : std::string("no write at all");
    fail(fmt::format("call {} ({}), begun at {:.6f}, reads {} of inode {} as of {};{}", call->number, call->what,
                     std::chrono::duration<double>(call->begin.time_since_epoch()).count(), offset + at, file.inode,
                     what, cell.describe()));
  }
}

// ---------------------------------------------------------------- applications

KernelRun::Slot& KernelRun::any_slot() {
  return slots_[random_->below(slots_.size())];
}

std::string KernelRun::path(const Slot& slot) const {
  return "/d" + std::to_string(slot.folder) + "/" + slot.name;
}

KernelRun::FilePtr KernelRun::any_open(Worker& worker) {
  if (worker.open.empty()) return nullptr;
  return worker.open[random_->below(worker.open.size())];
}

Task<void> KernelRun::work(size_t number) {
  Worker& worker = workers_[number];
  SimNode& node = cluster_.kernel_node(worker.mount);
  while (worker.left > 0 && !failed()) {
    --worker.left;
    co_await one(worker);
    if (random_->chance(1, 3)) co_await sleep_on(node, some(random_->chance(1, 10) ? Duration(2s) : Duration(5ms)));
  }
  while (!worker.open.empty() && !failed())
    co_await do_close(worker);
  worker.running = false;
}

Task<void> KernelRun::one(Worker& worker) {
  uint64_t drawn = random_->below(100);
  if (drawn < 12) {
    co_await do_create(worker);
  } else if (drawn < 24) {
    co_await do_open(worker);
  } else if (drawn < 28) {
    co_await do_close(worker);
  } else if (drawn < 42) {
    co_await do_stat(worker);
  } else if (drawn < 47) {
    co_await do_list(worker);
  } else if (drawn < 52) {
    co_await do_remove(worker);
  } else if (drawn < 58) {
    co_await do_rename(worker, drawn < 54);
  } else if (drawn < 74) {
    co_await do_read(worker);
  } else if (drawn < 87) {
    co_await do_overwrite(worker, drawn >= 83);
  } else if (drawn < 94) {
    co_await do_resize(worker);
  } else if (drawn < 97) {
    co_await do_fsync(worker);
  } else {
    co_await do_chmod(worker);
  }
}

Task<void> KernelRun::do_create(Worker& worker) {
  Slot& slot = any_slot();
  if (slot.exclusive) co_return;
  ++slot.changing;
  bool folder = random_->chance(1, 8);
  CallPtr call = begin(worker.mount, (folder ? "mkdir " : "create ") + path(slot));
  call->after.push_back([&slot] { --slot.changing; });
  change(call, slot.value, Register::kUnknown);
  SimKernel& vfs = *kernel(worker.mount);
  if (folder) {
    int error = co_await vfs.mkdir(path(slot));
    if (error == EEXIST && !slot.value.may_be(call->begin, now(), [](uint64_t one) { return one != 0; }, true))
      fail(call->what + " is told that it exists;" + slot.value.describe());
    (void)end(call, error, {EEXIST});
    co_return;
  }
  Sys<FilePtr> made = co_await vfs.open(path(slot), O_RDWR | O_CREAT | O_EXCL);
  if (made.error == EEXIST && !slot.value.may_be(call->begin, now(), [](uint64_t one) { return one != 0; }, true))
    fail(call->what + " is told that it exists;" + slot.value.describe());
  uint64_t inode = made ? SimKernel::inode_of(made.value) : 0;
  if (made) files_.try_emplace(inode, std::make_shared<FileHistory>(inode));
  if (end(call, made.error, {EEXIST}, inode) && made) worker.open.push_back(made.value);
}

Task<void> KernelRun::do_open(Worker& worker) {
  if (worker.open.size() >= kOpenMax) {
    co_await do_close(worker);
    co_return;
  }
  Slot& slot = any_slot();
  constexpr std::array<int, 3> kHow = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT};
  int flags = kHow[random_->below(kHow.size())];
  if ((flags & O_CREAT) != 0 && slot.exclusive) flags = O_RDWR;
  CallPtr call = begin(worker.mount, fmt::format("open {} {:o}", path(slot), flags));
  if ((flags & O_CREAT) != 0) {
    ++slot.changing;
    call->after.push_back([&slot] { --slot.changing; });
    change(call, slot.value, Register::kUnknown);
  }
  Sys<FilePtr> opened = co_await kernel(worker.mount)->open(path(slot), flags);
  uint64_t inode = opened ? SimKernel::inode_of(opened.value) : 0;
  if ((flags & O_CREAT) == 0) seen_name(call, slot, opened.error == EISDIR ? EIO : opened.error, inode);
  bool made = opened && SimKernel::created(opened.value);
  if (opened && !made && (flags & O_CREAT) != 0) {
    // It was there: nothing was changed.
    call->changes.front().target->refuse(call->changes.front().change);
    call->changes.clear();
    seen_name(call, slot, 0, inode);
  }
  if (made) files_.try_emplace(inode, std::make_shared<FileHistory>(inode));
  // ESTALE: made by another mount since the kernel looked, and, when it had looked again, removed.
  if (end(call, opened.error, {ENOENT, EISDIR, ESTALE}, made ? inode : 0) && opened)
    worker.open.push_back(opened.value);
}

Task<void> KernelRun::do_close(Worker& worker) {
  if (worker.open.empty()) co_return;
  size_t which = random_->below(worker.open.size());
  FilePtr file = worker.open[which];
  worker.open.erase(worker.open.begin() + static_cast<ptrdiff_t>(which));
  CallPtr call = begin(worker.mount, "close inode " + std::to_string(SimKernel::inode_of(file)));
  int error = co_await kernel(worker.mount)->close(file);
  if (!end(call, error, {})) {
    if (FileHistoryPtr history = file_of(SimKernel::inode_of(file))) history->lost = true;
  }
}

Task<void> KernelRun::do_stat(Worker& worker) {
  FilePtr file = random_->chance(1, 4) ? any_open(worker) : nullptr;
  if (file) {
    CallPtr call = begin(worker.mount, "fstat inode " + std::to_string(SimKernel::inode_of(file)));
    Sys<SimKernel::Stat> stat = co_await kernel(worker.mount)->fstat(file);
    if (end(call, stat.error, {}) && stat) seen_attributes(call, stat.value);
    co_return;
  }
  Slot& slot = any_slot();
  std::optional<uint64_t> before = slot.value.settled();
  CallPtr call = begin(worker.mount, "stat " + path(slot));
  Sys<SimKernel::Stat> stat = co_await kernel(worker.mount)->stat(path(slot));
  // ESTALE: removed elsewhere twice since the kernel looked (docs/consistency.md, "Known gaps").
  if (!end(call, stat.error, {ENOENT, ESTALE})) co_return;
  if (stat.error == ESTALE && before && slot.value.settled() == before)
    fail(call->what + ": stale, and nobody changed it");
  seen_name(call, slot, stat.error, stat.value.inode);
  if (stat) seen_attributes(call, stat.value);
}

Task<void> KernelRun::do_list(Worker& worker) {
  size_t folder = random_->below(slots_.back().folder + 1);
  CallPtr call = begin(worker.mount, "list /d" + std::to_string(folder));
  Sys<SimKernel::Listing> listing = co_await kernel(worker.mount)->list("/d" + std::to_string(folder));
  if (!end(call, listing.error, {}) || !listing) co_return;
  for (Slot& slot : slots_) {
    if (slot.folder != folder) continue;
    auto found = std::ranges::find(listing.value, slot.name, &std::pair<std::string, uint64_t>::first);
    bool there = found != listing.value.end();
    seen_name(call, slot, there ? 0 : ENOENT, there ? found->second : 0);
  }
}

Task<void> KernelRun::do_remove(Worker& worker) {
  Slot& slot = any_slot();
  if (slot.exclusive) co_return;
  ++slot.changing;
  CallPtr call = begin(worker.mount, "remove " + path(slot));
  call->after.push_back([&slot] { --slot.changing; });
  change(call, slot.value, 0);
  int error = co_await kernel(worker.mount)->unlink(path(slot));
  if (error == EISDIR) error = co_await kernel(worker.mount)->rmdir(path(slot));
  (void)end(call, error, {ENOENT, ENOTDIR, EISDIR, ENOTEMPTY});
  if (error == ENOENT) seen_name(call, slot, ENOENT, 0);
}

// Nobody else changes the two names meanwhile, so that it is known what they become.
Task<void> KernelRun::do_rename(Worker& worker, bool link) {
  Slot& from = any_slot();
  Slot& to = any_slot();
  std::optional<uint64_t> inode = from.value.settled();
  if (&from == &to || from.exclusive || to.exclusive || from.changing > 0 || to.changing > 0 || !inode) co_return;
  if (*inode == 0 || !file_of(*inode)) co_return;
  std::optional<uint64_t> replaced = to.value.settled();
  if (!replaced || *replaced == *inode || (*replaced != 0 && !file_of(*replaced))) co_return;
  from.exclusive = to.exclusive = true;
  CallPtr call = begin(worker.mount, (link ? "link " : "rename ") + path(from) + " " + path(to));
  call->after.push_back([&from, &to] { from.exclusive = to.exclusive = false; });
  int error = 0;
  if (link) {
    change(call, to.value, *inode);
    error = co_await kernel(worker.mount)->link(path(from), path(to));
  } else {
    change(call, from.value, 0);
    change(call, to.value, *inode);
    error = co_await kernel(worker.mount)->rename(path(from), path(to));
  }
  (void)end(call, error, {EEXIST});
  if (error == EEXIST && *replaced == 0) fail(call->what + " is told that the name exists;" + to.value.describe());
}

Task<void> KernelRun::do_chmod(Worker& worker) {
  Slot& slot = any_slot();
  std::optional<uint64_t> inode = slot.value.settled();
  FileHistoryPtr file = inode ? file_of(*inode) : nullptr;
  if (!file || slot.exclusive || slot.changing > 0) co_return;
  slot.exclusive = true;
  uint32_t mode = 0600 + static_cast<uint32_t>(random_->below(64));
  CallPtr call = begin(worker.mount, fmt::format("chmod {} {:o}", path(slot), mode));
  call->after.push_back([&slot] { slot.exclusive = false; });
  change(call, file->mode, mode);
  int error = co_await kernel(worker.mount)->chmod(path(slot), mode);
  (void)end(call, error, {});
}

// ---------------------------------------------------------------- bytes

Task<void> KernelRun::do_read(Worker& worker) {
  FilePtr file = any_open(worker);
  FileHistoryPtr history = file ? file_of(SimKernel::inode_of(file)) : nullptr;
  if (!history) co_return;
  uint64_t offset = random_->below(kFileCells) * kCellBytes;
  uint64_t size = (1 + random_->below(random_->chance(1, 4) ? kFileCells : kCellsAtOnce)) * kCellBytes;
  bool mapped = random_->chance(1, 4);
  CallPtr call = begin(worker.mount, fmt::format("{} inode {} {}+{}{}", mapped ? "load" : "read", history->inode,
                                                 offset, size, SimKernel::is_direct(file) ? " direct" : ""));
  SimKernel& vfs = *kernel(worker.mount);
  uint64_t put_away = SimKernel::put_away(file);
  Sys<std::string> data;
  if (mapped) {
    data = co_await vfs.load(file, offset, size);
  } else {
    data = co_await vfs.read(file, offset, size);
  }
  if (!end(call, data.error, {}) || !data) co_return;
  // Where the kernel put away what it had asked for, it went by the end that it knew (docs/consistency.md, "Known
  // gaps").
  bool ends = data.value.size() < size;
  bool asked_in_vain = ends && SimKernel::put_away(file) != put_away;
  // Beyond its end a mapping may show zeros for a while; so may a read, if the kernel was told of an older size just
  // when it asked (docs/consistency.md, "Known gaps").
  bool whole_pages = !ends || (offset + data.value.size()) % kSimPageBytes == 0;
  bool zeros = whole_pages && data.value.find_last_not_of('\0') + 1 <= data.value.size() - kCellBytes;
  if (!mapped && !asked_in_vain && !zeros && !data.value.empty())
    seen_end(call, *history, offset + data.value.size(), ends);
  seen_bytes(call, *history, offset, data.value);
}

Task<void> KernelRun::do_overwrite(Worker& worker, bool mapped) {
  FilePtr file = any_open(worker);
  FileHistoryPtr history = file ? file_of(SimKernel::inode_of(file)) : nullptr;
  std::optional<uint64_t> size = history ? history->size.settled() : std::nullopt;
  if (!size || *size == 0 || history->sizing || history->mapped || history->lost) co_return;
  if (!SimKernel::writable(file)) co_return;
  // Dirty pages on one mount while another commits: not tried here.
  auto commits = [&](const auto& written) {
    return written.first != worker.mount && (written.second == kNever || written.second + kCommittedWithin > now());
  };
  if (mapped && (history->writers > 0 || std::ranges::any_of(history->written, commits))) co_return;
  if (mapped) history->mapped = true;
  uint64_t cells = *size / kCellBytes;
  uint64_t first = random_->below(cells);
  uint64_t count = 1 + random_->below(std::min(cells - first, kCellsAtOnce));
  uint64_t write = next_write_++;
  ++history->writers;
  CallPtr call = begin(
      worker.mount, fmt::format("{} {} inode {} {}+{}{}", mapped ? "store" : "write", write, history->inode,
                                first * kCellBytes, count * kCellBytes, SimKernel::is_direct(file) ? " direct" : ""));
  call->after.push_back([history, mapped] {
    --history->writers;
    if (mapped) history->mapped = false;
  });
  for (uint64_t cell = first; cell < first + count; ++cell)
    change(call, history->cell(cell), write);
  std::string data = cells_of(write, first * kCellBytes, count * kCellBytes);
  SimKernel& vfs = *kernel(worker.mount);
  int error = 0;
  history->written[worker.mount] = kNever;
  if (mapped) {
    error = co_await vfs.store(file, first * kCellBytes, data);
    if (error == 0) error = co_await vfs.fsync(file);
  } else {
    Sys<uint64_t> done = co_await vfs.write(file, first * kCellBytes, data);
    error = done.error;
    if (error == 0 && done.value != data.size()) error = EIO;
  }
  history->written[worker.mount] = now();
  if (!end(call, error, {EFAULT}) || mounted_[worker.mount].ill) history->lost = true;
}

// An append, a truncation: nobody else writes meanwhile.
Task<void> KernelRun::do_resize(Worker& worker) {
  FilePtr file = any_open(worker);
  FileHistoryPtr history = file ? file_of(SimKernel::inode_of(file)) : nullptr;
  std::optional<uint64_t> size = history ? history->size.settled() : std::nullopt;
  if (!size || history->sizing || history->writers > 0 || history->lost || !SimKernel::writable(file)) co_return;
  uint64_t cells = *size / kCellBytes;
  bool grows = cells < kFileCells && (cells == 0 || random_->chance(3, 4));
  uint64_t more = 1 + random_->below(std::min(kFileCells - std::min(cells, kFileCells - 1), kCellsAtOnce));
  uint64_t to = grows ? cells + more : random_->below(cells);
  uint64_t write = next_write_++;
  history->sizing = true;
  CallPtr call = begin(worker.mount, fmt::format("{} {} inode {} {} to {}", grows ? "extend" : "cut", write,
                                                 history->inode, *size, to * kCellBytes));
  call->after.push_back([history] { history->sizing = false; });
  std::vector<uint64_t> on_the_way;  // the kernel may cut a write at each page
  for (uint64_t page = *size / kSimPageBytes + 1; grows && page * kSimPageBytes < to * kCellBytes; ++page)
    on_the_way.push_back(page * kSimPageBytes);
  change(call, history->size, to * kCellBytes, std::move(on_the_way));
  for (uint64_t cell = std::min(cells, to); cell < std::max(cells, to); ++cell)
    change(call, history->cell(cell), grows ? write : 0);
  SimKernel& vfs = *kernel(worker.mount);
  history->written[worker.mount] = kNever;
  int error = 0;
  if (grows) {
    std::string data = cells_of(write, *size, (to - cells) * kCellBytes);
    Sys<uint64_t> done = co_await vfs.write(file, *size, data);
    error = done.error;
    if (error == 0 && done.value != data.size()) error = EIO;
  } else {
    error = co_await vfs.ftruncate(file, to * kCellBytes);
  }
  history->written[worker.mount] = now();
  if (!end(call, error, {}) || mounted_[worker.mount].ill) history->lost = true;
}

Task<void> KernelRun::do_fsync(Worker& worker) {
  FilePtr file = any_open(worker);
  FileHistoryPtr history = file ? file_of(SimKernel::inode_of(file)) : nullptr;
  if (!history) co_return;
  CallPtr call = begin(worker.mount, "fsync inode " + std::to_string(history->inode));
  int error = co_await kernel(worker.mount)->fsync(file);
  auto written = history->written.find(worker.mount);
  bool all = written != history->written.end() && written->second < call->begin;
  if (!end(call, error, {})) {
    history->lost = true;
  } else if (all) {
    history->written.erase(written);
  }
}

}  // namespace cairn
