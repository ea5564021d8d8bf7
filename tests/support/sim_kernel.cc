#include "tests/support/sim_kernel.h"

#include <algorithm>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>

#include "common/base/check.h"
#include "tests/support/sim_kernel_parts.h"

namespace cairn {

namespace {
constexpr int kIncEpoch = 8;               // FUSE_NOTIFY_INC_EPOCH
constexpr uint32_t kAllowMmap2 = 1U << 4;  // FUSE_DIRECT_IO_ALLOW_MMAP, of flags2

std::string opcode_name(uint32_t opcode) {
  static const std::map<uint32_t, std::string> kNames = {{FUSE_LOOKUP, "LOOKUP"},
                                                         {FUSE_FORGET, "FORGET"},
                                                         {FUSE_GETATTR, "GETATTR"},
                                                         {FUSE_SETATTR, "SETATTR"},
                                                         {FUSE_MKDIR, "MKDIR"},
                                                         {FUSE_UNLINK, "UNLINK"},
                                                         {FUSE_RMDIR, "RMDIR"},
                                                         {FUSE_RENAME, "RENAME"},
                                                         {FUSE_LINK, "LINK"},
                                                         {FUSE_OPEN, "OPEN"},
                                                         {FUSE_READ, "READ"},
                                                         {FUSE_WRITE, "WRITE"},
                                                         {FUSE_RELEASE, "RELEASE"},
                                                         {FUSE_FSYNC, "FSYNC"},
                                                         {FUSE_FLUSH, "FLUSH"},
                                                         {FUSE_OPENDIR, "OPENDIR"},
                                                         {FUSE_READDIR, "READDIR"},
                                                         {FUSE_CREATE, "CREATE"},
                                                         {FUSE_INIT, "INIT"},
                                                         {FUSE_READDIRPLUS, "READDIRPLUS"},
                                                         {FUSE_RELEASEDIR, "RELEASEDIR"}};
  auto found = kNames.find(opcode);
  return found == kNames.end() ? std::to_string(opcode) : found->second;
}

// What an answer allows to believe.
std::string details(uint32_t opcode, const std::string& message) {
  std::string_view body = std::string_view(message).substr(sizeof(fuse_out_header));
  bool entry = opcode == FUSE_LOOKUP || opcode == FUSE_CREATE || opcode == FUSE_MKDIR || opcode == FUSE_LINK;
  if (entry && body.size() >= sizeof(fuse_entry_out)) {
    fuse_entry_out out{};
    std::memcpy(&out, body.data(), sizeof out);
    return fmt::format("inode {} name {}.{:09} s, attributes {}.{:09} s, size {}", out.nodeid, out.entry_valid,
                       out.entry_valid_nsec, out.attr_valid, out.attr_valid_nsec, out.attr.size);
  }
  if ((opcode == FUSE_GETATTR || opcode == FUSE_SETATTR) && body.size() >= sizeof(fuse_attr_out)) {
    fuse_attr_out out{};
    std::memcpy(&out, body.data(), sizeof out);
    return fmt::format("attributes {}.{:09} s, size {}", out.attr_valid, out.attr_valid_nsec, out.attr.size);
  }
  return fmt::format("{} bytes", body.size());
}

std::string notification_text(const std::string& message) {
  fuse_out_header head{};
  std::memcpy(&head, message.data(), sizeof head);
  const char* body = message.data() + sizeof head;
  if (head.error == FUSE_NOTIFY_INVAL_INODE) {
    fuse_notify_inval_inode_out what{};
    std::memcpy(&what, body, sizeof what);
    return fmt::format("invalidation of {} {}+{}", what.ino, what.off, what.len);
  }
  fuse_notify_inval_entry_out what{};
  std::memcpy(&what, body, sizeof what);
  return fmt::format("invalidation of name {} in {}", body + sizeof what, what.parent);
}
}  // namespace

SimKernel::SimKernel(World& world, SimKernelSettings settings)
    : world_(world),
      random_(world.random()),
      settings_(settings),
      renames_(std::make_shared<RwLock>(world.executor())),
      tasks_(world.executor(), world.clock()) {
  root_ = std::make_shared<Inode>(*this, FUSE_ROOT_ID, world.executor());
  root_->attributes.mode = 0040755;
  root_->lookups = 1;
  inodes_[FUSE_ROOT_ID] = root_.get();
}

SimKernel::~SimKernel() {
  closing_ = true;
}

void SimKernel::connect(std::function<void()> readable, Executor& executor) {
  readable_ = std::move(readable);
  process_ = &executor;
  tasks_.spawn(initialise());
}

Task<void> SimKernel::initialise() {
  fuse_init_in init{.major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_readahead = 128 * 1024};
  init.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_EXPLICIT_INVAL_DATA | FUSE_MAX_PAGES |
               FUSE_AUTO_INVAL_DATA | FUSE_INIT_EXT;
  if (settings_.parallel_dirops) init.flags |= FUSE_PARALLEL_DIROPS;
  if (settings_.readdirplus) init.flags |= FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO;
  if (settings_.kills_privileges) init.flags |= FUSE_HANDLE_KILLPRIV_V2;
  if (settings_.direct_mmap) init.flags2 |= kAllowMmap2;
  Answer answer = co_await ask(FUSE_INIT, 0, bytes_of(init));
  CHECK(answer.error == 0);
  auto agreed = answer.as<fuse_init_out>();
  flags_ = agreed.flags;
  flags2_ = agreed.flags2;
  CHECK((flags_ & FUSE_WRITEBACK_CACHE) == 0 && (flags_ & FUSE_EXPLICIT_INVAL_DATA) != 0 &&
        (flags_ & FUSE_AUTO_INVAL_DATA) == 0);  // this is what the model is of
  initialised_ = true;
}

// ---------------------------------------------------------------- requests

Duration SimKernel::some(Duration most) {
  return Duration(static_cast<int64_t>(random_.below(static_cast<uint64_t>(most.count()) + 1)));
}

// Between two steps of an application other things happen.
Task<void> SimKernel::pause() {
  Duration most = random_.chance(1, 16) ? Duration(5ms) : Duration(20us);
  Result<void> slept = co_await tasks_.sleep_for(some(most));
  CHECK(slept);
}

TimePoint SimKernel::until(uint64_t seconds, uint32_t nanoseconds) const {
  return world_.clock().now() + Duration(static_cast<int64_t>(seconds) * 1'000'000'000 + nanoseconds);
}

void SimKernel::queue(Pending pending) {
  if (closing_) return;
  bool first = queued_.empty();
  queued_.push_back(std::move(pending));
  if (first && process_) process_->post([readable = readable_] { readable(); });
}

Task<SimKernel::Answer> SimKernel::ask(uint32_t opcode, uint64_t inode, std::string body, OnReply on_reply) {
  auto answer = std::make_shared<Answer>();
  auto promise = std::make_shared<Promise<bool>>(world_.executor());
  Future<bool> answered = promise->future();
  fuse_in_header head{.len = static_cast<uint32_t>(sizeof head + body.size()),
                      .opcode = opcode,
                      .unique = next_unique_,
                      .nodeid = inode};
  next_unique_ += 2;
  queue({.unique = head.unique,
         .opcode = opcode,
         .message = bytes_of(head) + body,
         .on_reply = std::move(on_reply),
         .answered = std::move(promise),
         .answer = answer});
  Result<bool> came = co_await std::move(answered);
  CHECK(came);
  co_return *answer;
}

void SimKernel::tell(uint32_t opcode, uint64_t inode, std::string body) {
  fuse_in_header head{.len = static_cast<uint32_t>(sizeof head + body.size()),
                      .opcode = opcode,
                      .unique = next_unique_,
                      .nodeid = inode};
  next_unique_ += 2;
  queue({.unique = head.unique, .opcode = opcode, .message = bytes_of(head) + body});
}

std::string SimKernel::text_of(const Pending& pending) const {
  fuse_in_header head{};
  std::memcpy(&head, pending.message.data(), sizeof head);
  std::string text = fmt::format("request {} {} of {}", head.unique, opcode_name(head.opcode), head.nodeid);
  const char* body = pending.message.data() + sizeof head;
  bool named = head.opcode == FUSE_LOOKUP || head.opcode == FUSE_UNLINK || head.opcode == FUSE_RMDIR;
  if (named) text += fmt::format(" {}", body);
  if (head.opcode == FUSE_READ || head.opcode == FUSE_WRITE) {
    fuse_read_in range{};
    std::memcpy(&range, body, sizeof range);
    text += fmt::format(" {}+{} flags {}", range.offset, range.size, range.read_flags);
  }
  return text;
}

ssize_t SimKernel::receive(iovec* pieces, int count) {
  if (queued_.empty()) return -EAGAIN;
  Pending pending = std::move(queued_.front());
  queued_.pop_front();
  std::string_view left = pending.message;
  auto size = static_cast<ssize_t>(left.size());
  for (int i = 0; i < count && !left.empty(); ++i) {
    size_t part = std::min(left.size(), pieces[i].iov_len);
    std::memcpy(pieces[i].iov_base, left.data(), part);
    left.remove_prefix(part);
  }
  CHECK(left.empty());
  if (settings_.trace) settings_.trace(text_of(pending));
  bool forget = pending.opcode == FUSE_FORGET || pending.opcode == FUSE_BATCH_FORGET;
  pending.message.clear();
  if (!forget) waiting_.emplace(pending.unique, std::move(pending));
  return size;
}

ssize_t SimKernel::send(const iovec* pieces, int count) {
  std::string message;
  for (int i = 0; i < count; ++i)
    message.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
  fuse_out_header head{};
  CHECK(message.size() >= sizeof head);
  std::memcpy(&head, message.data(), sizeof head);
  CHECK(head.len == message.size());
  if (head.unique == 0) {
    CHECK(head.error == kIncEpoch);
    if (!settings_.epoch) return -EINVAL;
    ++epoch_;
    if (settings_.trace) settings_.trace("epoch");
    return static_cast<ssize_t>(message.size());
  }
  auto found = waiting_.find(head.unique);
  if (found == waiting_.end()) return -ENOENT;
  Pending pending = std::move(found->second);
  waiting_.erase(found);
  ++answers_;
  if (settings_.trace)
    settings_.trace(fmt::format("answer {}: {} {}", head.unique, -head.error, details(pending.opcode, message)));
  std::string body = message.substr(sizeof head);
  if (pending.on_reply) pending.on_reply(-head.error, body);
  if (pending.answered) {
    *pending.answer = {.error = -head.error, .body = std::move(body)};
    wake(std::move(pending.answered), true);
  }
  return static_cast<ssize_t>(message.size());
}

// Whoever waits runs soon after, and now and then not so soon.
void SimKernel::wake(std::shared_ptr<Promise<bool>> promise, bool late) {
  Duration after = some(late && random_.chance(1, settings_.late_one_in) ? settings_.late_max : Duration(30us));
  world_.clock().call_at(world_.clock().now() + after, [promise] { promise->set(true); });
}

// ---------------------------------------------------------------- notifications

Task<int> SimKernel::notify(std::string message, std::shared_ptr<std::atomic<bool>> begun) {
  CHECK(process_);
  auto done = std::make_shared<Promise<int>>(*process_);
  Future<int> returned = done->future();
  tasks_.spawn(run_notification(std::move(message), std::move(begun), std::move(done)));
  Result<int> answer = co_await std::move(returned);
  co_return answer.value_or(-ENODEV);
}

Task<void> SimKernel::run_notification(std::string message, std::shared_ptr<std::atomic<bool>> begun,
                                       std::shared_ptr<Promise<int>> done) {
  co_await pause();  // a thread for it
  *begun = true;
  fuse_out_header head{};
  std::memcpy(&head, message.data(), sizeof head);
  const char* body = message.data() + sizeof head;
  int answer = -EINVAL;
  if (settings_.trace) settings_.trace(notification_text(message));
  if (head.error == FUSE_NOTIFY_INVAL_INODE) {
    fuse_notify_inval_inode_out what{};
    std::memcpy(&what, body, sizeof what);
    answer = co_await invalidate_inode(what.ino, what.off, what.len);
  } else if (head.error == FUSE_NOTIFY_INVAL_ENTRY) {
    fuse_notify_inval_entry_out what{};
    std::memcpy(&what, body, sizeof what);
    CHECK(what.flags == 0);  // EXPIRE_ONLY is no tool for coherence
    answer = co_await invalidate_entry(what.parent, std::string(body + sizeof what, what.namelen));
  }
  if (settings_.trace) settings_.trace(fmt::format("{}: {}", notification_text(message), answer));
  done->set(answer);
}

Task<int> SimKernel::invalidate_inode(uint64_t number, int64_t offset, int64_t size) {
  InodePtr inode = find(number);
  if (!inode) co_return -ENOENT;
  inode->version = ++version_;
  invalidate_attributes(*inode);
  if (offset < 0) co_return 0;
  uint64_t first = static_cast<uint64_t>(offset) / kSimPageBytes;
  uint64_t last = size <= 0 ? UINT64_MAX : static_cast<uint64_t>(offset + size - 1) / kSimPageBytes;
  co_await drop_pages(inode, first, last);
  co_return 0;
}

Task<int> SimKernel::invalidate_entry(uint64_t parent, std::string name) {
  InodePtr directory = find(parent);
  if (!directory) co_return -ENOENT;
  RwLock::Hold lock = co_await RwLock::exclusive(directory->lock);
  auto found = directory->names.find(name);
  if (found == directory->names.end()) co_return -ENOENT;
  directory_changed(*directory);
  DentryPtr dentry = found->second;
  drop_name(directory, dentry);
  co_return 0;
}

uint64_t SimKernel::put_away(const FilePtr& file) {
  return file->inode->put_away;
}
uint64_t SimKernel::inode_of(const FilePtr& file) {
  return file->inode->number;
}

bool SimKernel::is_direct(const FilePtr& file) {
  return (file->open_flags & FOPEN_DIRECT_IO) != 0;
}

bool SimKernel::writable(const FilePtr& file) {
  return (file->flags & O_ACCMODE) != O_RDONLY;
}

bool SimKernel::created(const FilePtr& file) {
  return file->created;
}

std::string SimKernel::waiting() const {
  std::string text;
  for (const Pending& pending : queued_)
    text += fmt::format(" {} (opcode {}, not taken)", pending.unique, pending.opcode);
  for (const auto& [unique, pending] : waiting_)
    text += fmt::format(" {} (opcode {})", unique, pending.opcode);
  return text;
}

}  // namespace cairn
