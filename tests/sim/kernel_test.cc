// The model of the kernel over the real fs/fuse: what applications on two mounts see.
#include <fcntl.h>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <utility>

#include "tests/support/sim_kernel_mount.h"

namespace cairn {
namespace {

using namespace std::chrono_literals;

template <class T>
Task<void> keep(Task<T> call, std::shared_ptr<std::optional<T>> result) {
  T value = co_await std::move(call);
  result->emplace(std::move(value));
}

// Two mounts, each with a kernel that forgets nothing by itself and is late with nothing.
class Kernels : public testing::Test {
 protected:
  static SimKernelSettings settings() {
    SimKernelSettings settings;
    settings.late_max = 0s;
    settings.evicts_one_in = 0;
    return settings;
  }

  void start(SimKernelSettings settings) {
    SimClusterOptions options{.mounts = 2, .kernels = true};
    options.on_mount = [this](size_t i, World& world, FileSystem& fs) {
      return std::make_unique<KernelMount>(world, fs, kernel(i));
    };
    cluster_ = std::make_unique<SimCluster>(7, options);
    for (size_t i = 0; i < 2; ++i)
      cluster_->kernel_node(i).start([settings](World& world) { return std::make_shared<SimKernel>(world, settings); });
    ASSERT_TRUE(cluster_->start());
    cluster_->simulator().run_until([this] { return kernel(0).connected() && kernel(1).connected(); }, 10s);
    ASSERT_TRUE(kernel(0).connected() && kernel(1).connected());
  }
  SimKernel& kernel(size_t i) { return *cluster_->kernel_node(i).program<SimKernel>(); }

  template <class T>
  std::shared_ptr<std::optional<T>> begin(size_t i, Task<T> call) {
    auto result = std::make_shared<std::optional<T>>();
    cluster_->kernel_node(i).spawn(keep<T>(std::move(call), result));
    return result;
  }
  template <class T>
  T run(size_t i, Task<T> call) {
    auto result = begin<T>(i, std::move(call));
    cluster_->simulator().run_until([&] { return result->has_value(); }, 120s);
    if (!result->has_value()) {
      ADD_FAILURE() << "it does not end; waiting:" << kernel(i).waiting();
      return T{};
    }
    return std::move(**result);
  }
  SimKernel::FilePtr open(size_t i, const std::string& path, int flags = O_RDWR | O_CREAT) {
    Sys<SimKernel::FilePtr> file = run(i, kernel(i).open(path, flags));
    EXPECT_EQ(0, file.error) << path;
    return file.value;
  }
  std::string read(size_t i, const SimKernel::FilePtr& file, uint64_t offset = 0, uint64_t size = 1 << 16) {
    Sys<std::string> data = run(i, kernel(i).read(file, offset, size));
    EXPECT_EQ(0, data.error);
    return data.value;
  }
  void write(size_t i, const SimKernel::FilePtr& file, uint64_t offset, std::string data) {
    uint64_t size = data.size();
    Sys<uint64_t> done = run(i, kernel(i).write(file, offset, std::move(data)));
    EXPECT_EQ(0, done.error);
    EXPECT_EQ(size, done.value);
  }

  std::unique_ptr<SimCluster> cluster_;
};

TEST_F(Kernels, OneMountSeesWhatItDoes) {
  start(settings());
  EXPECT_EQ(0, run(0, kernel(0).mkdir("/d")));
  EXPECT_EQ(EEXIST, run(0, kernel(0).mkdir("/d")));
  SimKernel::FilePtr file = open(0, "/d/x");
  write(0, file, 100, std::string(10'000, 'a'));
  EXPECT_EQ(std::string(100, '\0') + std::string(10'000, 'a'), read(0, file));
  EXPECT_EQ(10'100u, run(0, kernel(0).stat("/d/x")).value.size);
  EXPECT_EQ(0, run(0, kernel(0).rename("/d/x", "/d/y")));
  EXPECT_EQ(ENOENT, run(0, kernel(0).stat("/d/x")).error);
  EXPECT_EQ(0, run(0, kernel(0).link("/d/y", "/z")));
  EXPECT_EQ(2u, run(0, kernel(0).stat("/z")).value.nlink);
  EXPECT_THAT(run(0, kernel(0).list("/d")).value, testing::ElementsAre(testing::Pair("y", SimKernel::inode_of(file))));
  EXPECT_EQ(0, run(0, kernel(0).store(file, 4090, "mapped")));
  EXPECT_EQ(0, run(0, kernel(0).fsync(file)));
  EXPECT_EQ("mapped", read(0, file, 4090, 6));
  EXPECT_EQ(0, run(0, kernel(0).truncate("/z", 4092)));
  EXPECT_EQ("ma", read(0, file, 4090, 6));
  EXPECT_EQ(0, run(0, kernel(0).unlink("/z")));
  EXPECT_EQ(0, run(0, kernel(0).unlink("/d/y")));
  EXPECT_EQ(0, run(0, kernel(0).rmdir("/d")));
  EXPECT_EQ("ma", read(0, file, 4090, 6));
  EXPECT_EQ(0, run(0, kernel(0).close(file)));
}

TEST_F(Kernels, TwoMountsSeeWhatTheOtherDoes) {
  start(settings());
  EXPECT_EQ(0, run(0, kernel(0).mkdir("/d")));
  SimKernel::FilePtr here = open(0, "/d/x");
  write(0, here, 0, "one");
  SimKernel::FilePtr there = open(1, "/d/x", O_RDWR);
  EXPECT_EQ("one", read(1, there));
  write(0, here, 0, "two, and more");
  EXPECT_EQ("two, and more", read(1, there));
  write(1, there, 4096, "far");
  EXPECT_EQ(4099u, run(0, kernel(0).stat("/d/x")).value.size);
  EXPECT_EQ("far", read(0, here, 4096));
  EXPECT_EQ(0, run(1, kernel(1).rename("/d/x", "/d/y")));
  EXPECT_EQ(ENOENT, run(0, kernel(0).stat("/d/x")).error);
  EXPECT_EQ(SimKernel::inode_of(here), run(0, kernel(0).stat("/d/y")).value.inode);
  EXPECT_THAT(run(0, kernel(0).list("/d")).value, testing::ElementsAre(testing::Pair("y", testing::_)));
}

// A lookup waits for no writer: what it says of the size is from before what a READ may have brought since.
TEST_F(Kernels, ANameDoesNotShortenAFileThatIsWrittenElsewhere) {
  start(settings());
  SimKernel::FilePtr ours = open(0, "/x");
  write(0, ours, 0, std::string(8192, 'a'));
  EXPECT_EQ(0, run(0, kernel(0).fsync(ours)));
  SimKernel::FilePtr theirs = open(1, "/x", O_RDWR);
  EXPECT_EQ(8192u, read(1, theirs).size());
  EXPECT_EQ(0, run(0, kernel(0).link("/x", "/y")));
  EXPECT_EQ(0, run(0, kernel(0).ftruncate(ours, 5000)));
  write(0, ours, 5000, std::string(4000, 'b'));
  (void)open(1, "/y", O_RDONLY);  // looked up: 5000 is what the master knows
  // As much as the kernel believes there to be, with no question asked.
  std::string there = std::string(5000, 'a') + std::string(4000, 'b');
  EXPECT_EQ(there.substr(0, 8192), run(1, kernel(1).load(theirs, 0, 1 << 16)).value);
  EXPECT_EQ(there, read(1, theirs));
}

TEST_F(Kernels, WhatIsCachedCostsNoRequest) {
  start(settings());
  EXPECT_EQ(0, run(0, kernel(0).mkdir("/d")));
  SimKernel::FilePtr file = open(0, "/d/x");
  write(0, file, 0, std::string(8192, 'a'));
  cluster_->simulator().run_for(2s);  // until it is committed
  (void)read(0, file);
  (void)run(0, kernel(0).stat("/d/x"));
  uint64_t answers = kernel(0).answers();
  (void)read(0, file, 0, 8192);
  (void)run(0, kernel(0).stat("/d/x"));
  EXPECT_EQ(answers, kernel(0).answers());
}

}  // namespace
}  // namespace cairn
