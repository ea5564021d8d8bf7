// The model of the kernel by itself: what the experiments with Linux have shown (docs/consistency.md, "What the kernel
// keeps, and how it is made to forget"). The process that serves it is the test, which answers when it likes.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/uio.h>
#include <utility>
#include <vector>

#include "common/runtime/sim_world.h"
#include "tests/support/sim_kernel.h"

namespace cairn {
namespace {

using namespace std::chrono_literals;

template <class T>
Task<void> keep(Task<T> call, std::shared_ptr<std::optional<T>> result) {
  T value = co_await std::move(call);
  result->emplace(std::move(value));
}

template <class T>
std::string bytes(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

fuse_attr attributes_of(uint64_t inode, uint64_t size) {
  bool directory = inode < 10;
  return {.ino = inode, .size = size, .mode = directory ? 0040755u : 0100644u, .nlink = 1};
}

std::string entry(uint64_t inode, uint64_t size = 0, uint64_t seconds = 3600) {
  return bytes(fuse_entry_out{
      .nodeid = inode, .entry_valid = seconds, .attr_valid = seconds, .attr = attributes_of(inode, size)});
}

// Directories are inodes below 10. Unless a request is held, it is answered at once: names from `names_`, files are
// `size_` long and full of x.
class KernelRules : public testing::Test {
 protected:
  KernelRules() : simulator_(3), node_(simulator_.add_node("kernel")) {}

  void start(SimKernelSettings settings = {}) {
    settings.late_max = 0s;
    settings.evicts_one_in = 0;
    settings.read_ahead_pages = 1;
    node_.start([settings](World& world) { return std::make_shared<SimKernel>(world, settings); });
    simulator_.run_for(0s);
    kernel().connect([this] { serve(); }, node_.executor());
    go();
    ASSERT_TRUE(kernel().connected());
  }
  SimKernel& kernel() { return *node_.program<SimKernel>(); }
  void go(Duration time = 100ms) { simulator_.run_for(time); }

  struct Request {
    fuse_in_header head{};
    std::string body;
  };
  void serve() {
    std::vector<char> buffer(2 << 20);
    iovec piece{buffer.data(), buffer.size()};
    for (;;) {
      ssize_t got = kernel().receive(&piece, 1);
      if (got < 0) return;
      Request request;
      std::memcpy(&request.head, buffer.data(), sizeof request.head);
      request.body.assign(buffer.data() + sizeof request.head, static_cast<size_t>(got) - sizeof request.head);
      seen_.push_back(request.head.opcode);
      if (request.head.opcode == FUSE_FORGET) continue;
      if (hold_ == request.head.opcode) {
        held_.push_back(request);
      } else {
        answer(request);
      }
    }
  }
  void answer(const Request& request) {
    switch (request.head.opcode) {
      case FUSE_INIT: {
        fuse_init_out out{.major = 7, .minor = 38};
        out.flags = FUSE_EXPLICIT_INVAL_DATA | FUSE_PARALLEL_DIROPS | FUSE_ATOMIC_O_TRUNC | FUSE_DO_READDIRPLUS;
        return reply(request, 0, bytes(out));
      }
      case FUSE_LOOKUP: {
        auto found = names_.find(request.body.c_str());
        return found == names_.end() ? reply(request, ENOENT) : reply(request, 0, entry(found->second, size_));
      }
      case FUSE_GETATTR:
      case FUSE_SETATTR:
        return reply(request, 0,
                     bytes(fuse_attr_out{.attr_valid = 3600, .attr = attributes_of(request.head.nodeid, size_)}));
      case FUSE_OPEN:
      case FUSE_OPENDIR:
        return reply(request, 0, bytes(fuse_open_out{.fh = 1, .open_flags = FOPEN_KEEP_CACHE}));
      case FUSE_CREATE:
        return reply(request, 0, entry(50) + bytes(fuse_open_out{.fh = 1, .open_flags = FOPEN_KEEP_CACHE}));
      case FUSE_READ: {
        fuse_read_in read{};
        std::memcpy(&read, request.body.data(), sizeof read);
        uint64_t size = std::min<uint64_t>(read.size, size_ - std::min(size_, read.offset));
        return reply(request, 0, std::string(size, letter_));
      }
      case FUSE_WRITE: {
        fuse_write_in write{};
        std::memcpy(&write, request.body.data(), sizeof write);
        return reply(request, 0, bytes(fuse_write_out{.size = write.size}));
      }
      default:
        return reply(request, 0);
    }
  }
  void reply(const Request& request, int error, const std::string& body = {}) {
    fuse_out_header head{
        .len = static_cast<uint32_t>(sizeof head + body.size()), .error = -error, .unique = request.head.unique};
    iovec pieces[2] = {{&head, sizeof head}, {const_cast<char*>(body.data()), body.size()}};
    ASSERT_GT(kernel().send(pieces, 2), 0);
  }
  // Requests of that kind wait from now on.
  void hold(uint32_t opcode) { hold_ = opcode; }
  void let_go() {
    hold_ = 0;
    for (const Request& request : std::exchange(held_, {}))
      answer(request);
    go();
  }

  template <class T>
  std::shared_ptr<std::optional<T>> begin(Task<T> call) {
    auto result = std::make_shared<std::optional<T>>();
    node_.spawn(keep<T>(std::move(call), result));
    go();
    return result;
  }
  template <class T>
  T run(Task<T> call) {
    auto result = begin<T>(std::move(call));
    EXPECT_TRUE(result->has_value());
    return result->value_or(T{});
  }
  using Notified = std::shared_ptr<std::optional<int>>;
  Notified invalidate(uint64_t inode, int64_t offset, int64_t size) {
    fuse_notify_inval_inode_out what{.ino = inode, .off = offset, .len = size};
    return notify(FUSE_NOTIFY_INVAL_INODE, bytes(what));
  }
  Notified invalidate_name(uint64_t parent, const std::string& name) {
    fuse_notify_inval_entry_out what{.parent = parent, .namelen = static_cast<uint32_t>(name.size())};
    return notify(FUSE_NOTIFY_INVAL_ENTRY, bytes(what) + name + '\0');
  }
  Notified notify(int code, const std::string& body) {
    fuse_out_header head{.len = static_cast<uint32_t>(sizeof head + body.size()), .error = code, .unique = 0};
    return begin<int>(kernel().notify(bytes(head) + body, std::make_shared<std::atomic<bool>>(false)));
  }
  void advance_epoch() {
    fuse_out_header head{.len = sizeof head, .error = 8, .unique = 0};
    iovec piece{&head, sizeof head};
    EXPECT_EQ(static_cast<ssize_t>(sizeof head), kernel().send(&piece, 1));
  }
  size_t asked(uint32_t opcode) const { return static_cast<size_t>(std::ranges::count(seen_, opcode)); }
  SimKernel::FilePtr open(const std::string& path, int flags = O_RDWR) { return run(kernel().open(path, flags)).value; }

  Simulator simulator_;
  SimNode& node_;
  std::map<std::string, uint64_t> names_ = {{"d", 2}, {"e", 3}, {"x", 20}, {"y", 21}};
  uint64_t size_ = 40'960;
  char letter_ = 'x';
  uint32_t hold_ = 0;
  std::vector<Request> held_;
  std::vector<uint32_t> seen_;
};

// ---------------------------------------------------------------- names

TEST_F(KernelRules, ANameWaitsForTheDirectorysLock) {
  start();
  (void)run(kernel().stat("/d/x"));
  (void)run(kernel().stat("/e/x"));
  for (uint32_t opcode : {FUSE_LOOKUP, FUSE_MKDIR, FUSE_UNLINK, FUSE_CREATE, FUSE_READDIRPLUS}) {
    hold(opcode);
    if (opcode == FUSE_LOOKUP) (void)begin(kernel().stat("/d/y"));
    if (opcode == FUSE_MKDIR) (void)begin(kernel().mkdir("/d/new"));
    if (opcode == FUSE_UNLINK) (void)begin(kernel().unlink("/d/y"));
    if (opcode == FUSE_CREATE) (void)begin(kernel().open("/d/made", O_RDWR | O_CREAT));
    if (opcode == FUSE_READDIRPLUS) (void)begin(kernel().list("/d"));
    Notified there = invalidate_name(2, "x");
    EXPECT_FALSE(there->has_value()) << opcode;
    EXPECT_TRUE(invalidate_name(3, "x")->has_value()) << opcode;
    EXPECT_TRUE(invalidate(2, -1, 0)->has_value()) << opcode;
    EXPECT_TRUE(invalidate(2, 0, 0)->has_value()) << opcode;
    // Whoever comes later waits behind it.
    auto behind = begin(kernel().stat("/d/unheard"));
    EXPECT_FALSE(behind->has_value());
    let_go();
    EXPECT_TRUE(there->has_value()) << opcode;
    EXPECT_TRUE(behind->has_value());
    (void)run(kernel().stat("/d/x"));
    (void)run(kernel().stat("/e/x"));
  }
}

TEST_F(KernelRules, ANameThatIsAskedAboutAgainHoldsNothing) {
  start();
  (void)run(kernel().stat("/d/x"));
  go(4000s);
  (void)run(kernel().stat("/d"));
  hold(FUSE_LOOKUP);
  auto again = begin(kernel().stat("/d/x"));
  EXPECT_FALSE(again->has_value());
  EXPECT_TRUE(invalidate_name(2, "x")->has_value());
  let_go();
  EXPECT_TRUE(again->has_value());
}

TEST_F(KernelRules, AnEpochHasAllNamesLookedUpAgain) {
  start();
  (void)run(kernel().stat("/d/x"));
  size_t before = asked(FUSE_LOOKUP);
  (void)run(kernel().stat("/d/x"));
  EXPECT_EQ(before, asked(FUSE_LOOKUP));
  advance_epoch();
  (void)run(kernel().stat("/d/x"));
  EXPECT_EQ(before + 2, asked(FUSE_LOOKUP));
  // An answer to what was asked before it is not trusted either.
  hold(FUSE_LOOKUP);
  (void)begin(kernel().stat("/d/y"));
  advance_epoch();
  let_go();
  before = asked(FUSE_LOOKUP);
  (void)run(kernel().stat("/d/y"));
  EXPECT_EQ(before + 2, asked(FUSE_LOOKUP));
}

TEST_F(KernelRules, ARenamedNameKeepsItsTime) {
  start();
  names_ = {{"d", 2}, {"e", 3}, {"x", 20}};
  (void)run(kernel().stat("/d/x"));
  names_.erase("x");
  EXPECT_EQ(0, run(kernel().rename("/d/x", "/e/z")));
  EXPECT_EQ(20u, run(kernel().stat("/e/z")).value.inode);
}

// ---------------------------------------------------------------- attributes

TEST_F(KernelRules, AttributesThatCameTooLateAreBelievedOfWhatWasUnknown) {
  start();
  (void)run(kernel().stat("/d"));
  hold(FUSE_LOOKUP);
  auto first = begin(kernel().stat("/d/x"));
  EXPECT_EQ(-ENOENT, invalidate(20, -1, 0)->value());
  let_go();
  EXPECT_TRUE(first->has_value());
  size_t before = asked(FUSE_GETATTR);
  (void)run(kernel().stat("/d/x"));
  EXPECT_EQ(before, asked(FUSE_GETATTR));
}

TEST_F(KernelRules, AttributesThatCameTooLateAreNotBelievedOfWhatWasKnown) {
  start();
  (void)run(kernel().stat("/d/x"));
  EXPECT_EQ(0, invalidate(20, -1, 0)->value());
  hold(FUSE_GETATTR);
  auto asking = begin(kernel().stat("/d/x"));
  EXPECT_EQ(0, invalidate(20, -1, 0)->value());
  let_go();
  EXPECT_TRUE(asking->has_value());
  size_t before = asked(FUSE_GETATTR);
  (void)run(kernel().stat("/d/x"));
  EXPECT_EQ(before + 1, asked(FUSE_GETATTR));
}

// ---------------------------------------------------------------- pages

TEST_F(KernelRules, PagesWaitForTheirReadOnly) {
  start();
  SimKernel::FilePtr file = open("/d/x");
  hold(FUSE_READ);
  auto reading = begin(kernel().read(file, 8192, 100));
  EXPECT_TRUE(invalidate(20, -1, 0)->has_value());
  EXPECT_TRUE(invalidate(20, 0, 8192)->has_value());
  Notified all = invalidate(20, 0, 0);
  EXPECT_FALSE(all->has_value());
  let_go();
  EXPECT_TRUE(all->has_value());
  EXPECT_TRUE(reading->has_value());
}

TEST_F(KernelRules, PagesWaitForAWriteOfAPartOnly) {
  start();
  SimKernel::FilePtr file = open("/d/x");
  hold(FUSE_WRITE);
  auto whole = begin(kernel().write(file, 0, std::string(8192, 'a')));
  EXPECT_TRUE(invalidate(20, 0, 0)->has_value());
  let_go();
  hold(FUSE_WRITE);
  auto part = begin(kernel().write(file, 8192, std::string(100, 'a')));
  EXPECT_TRUE(invalidate(20, 0, 8192)->has_value());
  Notified all = invalidate(20, 0, 0);
  EXPECT_FALSE(all->has_value());
  let_go();
  EXPECT_TRUE(all->has_value());
  EXPECT_TRUE(whole->has_value() && part->has_value());
}

TEST_F(KernelRules, ADirtyPageIsWrittenAndWaitedFor) {
  start();
  SimKernel::FilePtr file = open("/d/x");
  EXPECT_EQ(0, run(kernel().store(file, 100, "dirty")));
  hold(FUSE_WRITE);
  EXPECT_TRUE(invalidate(20, -1, 0)->has_value());
  Notified all = invalidate(20, 0, 0);
  EXPECT_FALSE(all->has_value());
  ASSERT_EQ(1u, held_.size());
  fuse_write_in write{};
  std::memcpy(&write, held_.front().body.data(), sizeof write);
  EXPECT_EQ(FUSE_WRITE_CACHE, write.write_flags);
  EXPECT_EQ(4096u, write.size);
  let_go();
  EXPECT_TRUE(all->has_value());
}

// While the notification waits at a page, another READ fills one that it has passed.
TEST_F(KernelRules, APageBehindTheCursorStays) {
  start();
  SimKernel::FilePtr file = open("/d/x");
  hold(FUSE_READ);
  (void)begin(kernel().read(file, 8192, 100));
  std::vector<Request> first = std::exchange(held_, {});
  Notified all = invalidate(20, 0, 0);
  EXPECT_FALSE(all->has_value());
  hold(0);
  EXPECT_EQ(std::string(10, 'x'), run(kernel().read(file, 0, 10)).value);
  letter_ = 'n';
  for (const Request& request : first)
    answer(request);
  go();
  EXPECT_TRUE(all->has_value());
  EXPECT_EQ(std::string(10, 'x'), run(kernel().read(file, 0, 10)).value);
  EXPECT_EQ(std::string(10, 'n'), run(kernel().read(file, 8192, 10)).value);
}

TEST_F(KernelRules, AppendGoesWhereTheKernelBelievesTheEndToBe) {
  start();
  SimKernel::FilePtr file = open("/d/x", O_RDWR | O_APPEND);
  size_ = 50'000;
  EXPECT_EQ(0, invalidate(20, -1, 0)->value());
  hold(FUSE_WRITE);
  (void)begin(kernel().write(file, 0, "more"));
  ASSERT_EQ(1u, held_.size());
  fuse_write_in write{};
  std::memcpy(&write, held_.front().body.data(), sizeof write);
  EXPECT_EQ(40'960u, write.offset);
  let_go();
}

}  // namespace
}  // namespace cairn
