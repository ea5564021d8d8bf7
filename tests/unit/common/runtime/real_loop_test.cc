// The loop over the operating system: posts from many threads, timers, pools, signals, descriptors.
#include <atomic>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <latch>
#include <memory>
#include <optional>
#include <signal.h>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "common/runtime/real_world.h"
#include "common/runtime/scoped_timer.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {
namespace {

class RealLoop : public testing::Test {
 protected:
  std::unique_ptr<RealWorld> world = RealWorld::make({});
};

Task<void> sleep(World* world, Duration duration) {
  Promise<void> done(world->executor());
  ScopedTimer timer(world->clock(), world->clock().now() + duration, [&done] { done.set({}); });
  Result<void> slept = co_await done.future();
  (void)slept;
}

Task<int> answer(int value) {
  co_return value;
}

TEST_F(RealLoop, RunGivesTheValueOfMain) {
  EXPECT_EQ(world->run(answer(7)), 7);
}

Task<int> post_in_order(World* world, std::string* log) {
  Promise<void> done(world->executor());
  world->executor().post([&] {
    *log += "1";
    world->executor().post([&] {
      *log += "3";
      done.set({});
    });
  });
  world->executor().post([log] { *log += "2"; });
  *log += "0";
  Result<void> result = co_await done.future();
  co_return result ? 0 : 1;
}

TEST_F(RealLoop, PostsRunInOrderAndNeverInside) {
  std::string log;
  EXPECT_EQ(world->run(post_in_order(world.get(), &log)), 0);
  EXPECT_EQ(log, "0123");
}

Task<int> post_after_another_thread(World* world, std::string* log) {
  Promise<void> done(world->executor());
  std::thread other([&] { world->executor().post([log] { *log += "theirs "; }); });
  other.join();
  world->executor().post([&] {
    *log += "ours";
    done.set({});
  });
  Result<void> result = co_await done.future();
  co_return result ? 0 : 1;
}

TEST_F(RealLoop, PostOfAnotherThreadThatCameBeforeRunsBefore) {
  std::string log;
  EXPECT_EQ(world->run(post_after_another_thread(world.get(), &log)), 0);
  EXPECT_EQ(log, "theirs ours");
}

Task<int> wait_for(Future<void> future) {
  Result<void> result = co_await std::move(future);
  co_return result ? 0 : 1;
}

TEST_F(RealLoop, PostsOfManyThreadsAllArriveEachThreadsInOrder) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 20'000;
  std::vector<int> last(kThreads, -1);
  int left = kThreads * kPosts;
  bool in_order = true;
  Promise<void> done(world->executor());
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        world->executor().post([&, t, i] {
          in_order = in_order && last[t] == i - 1 && world->executor().on_loop();
          last[t] = i;
          if (--left == 0) done.set({});
        });
      }
    });
  }
  EXPECT_EQ(world->run(wait_for(done.future())), 0);
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_TRUE(in_order);
  // Each sleep ends with at most one wake-up, however many posts came meanwhile.
  EXPECT_LE(world->loop_counters().wake_ups, world->loop_counters().sleeps);
}

TEST_F(RealLoop, ManyPostsToASleepingLoopCostOneWakeUp) {
  Promise<void> done(world->executor());
  std::latch in_loop(1);
  std::latch posted(1);
  // The first post wakes the loop and holds it; those made meanwhile find it awake.
  std::thread thread([&] {
    while (world->loop_counters().sleeps == 0)
      std::this_thread::yield();
    world->executor().post([&] {
      in_loop.count_down();
      posted.wait();
    });
    in_loop.wait();
    for (int i = 0; i < 1000; ++i)
      world->executor().post([] {});
    world->executor().post([&] { done.set({}); });
    posted.count_down();
  });
  EXPECT_EQ(world->run(wait_for(done.future())), 0);
  thread.join();
  EXPECT_EQ(world->loop_counters().wake_ups, 1u);
}

Task<int> use_timers(World* world, std::vector<int>* fired) {
  Promise<void> done(world->executor());
  Clock& clock = world->clock();
  TimePoint start = clock.now();
  clock.call_at(start + 20ms, [&] {
    fired->push_back(20);
    done.set({});
  });
  clock.call_at(start + 10ms, [fired] { fired->push_back(10); });
  clock.cancel(clock.call_at(start + 5ms, [fired] { fired->push_back(5); }));
  clock.call_at(start - 1s, [fired] { fired->push_back(0); });
  EXPECT_TRUE(fired->empty());
  Result<void> result = co_await done.future();
  EXPECT_GE(clock.now() - start, 20ms);
  co_return result ? 0 : 1;
}

TEST_F(RealLoop, TimersFireInOrderAndNotBeforeTheirTime) {
  std::vector<int> fired;
  EXPECT_EQ(world->run(use_timers(world.get(), &fired)), 0);
  EXPECT_EQ(fired, (std::vector<int>{0, 10, 20}));
}

Task<int> sleep_once(World* world) {
  co_await sleep(world, 300ms);
  co_return 0;
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_THREAD, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

TEST_F(RealLoop, IdleLoopSleepsThoughItMayPoll) {
  std::unique_ptr<RealWorld> polling = RealWorld::make({.poll = 200us});
  double before = cpu_seconds();
  EXPECT_EQ(polling->run(sleep_once(polling.get())), 0);
  EXPECT_LT(cpu_seconds() - before, 0.1);
  EXPECT_GE(polling->loop_counters().sleeps, 1u);
}

Task<int> run_on_pool(World* world, BlockingPool* pool) {
  std::thread::id loop_thread = std::this_thread::get_id();
  Result<bool> elsewhere =
      co_await pool->run([loop_thread]() -> Result<bool> { return std::this_thread::get_id() != loop_thread; });
  EXPECT_TRUE(elsewhere && *elsewhere);
  EXPECT_TRUE(world->executor().on_loop());
  Result<int> failed = co_await pool->run([]() -> Result<int> { return ErrorCode::kNoSpace; });
  EXPECT_TRUE(failed.failed_with(ErrorCode::kNoSpace));
  Result<std::string> name = co_await pool->run([]() -> Result<std::string> {
    char text[16] = "";
    pthread_getname_np(pthread_self(), text, sizeof(text));
    return std::string(text);
  });
  EXPECT_EQ(*name, "a-long-pool-n-0");
  EXPECT_EQ(pool->pending(), 0u);
  co_return 0;
}

TEST_F(RealLoop, PoolRunsWorkElsewhereAndComesBackToTheLoop) {
  auto pool = world->make_pool("a-long-pool-name", 1);
  EXPECT_EQ(world->run(run_on_pool(world.get(), pool.get())), 0);
}

TEST_F(RealLoop, PoolOfOneThreadKeepsTheOrder) {
  auto pool = world->make_pool("pool", 1);
  std::vector<int> worked;
  std::vector<int> done;
  Promise<void> all(world->executor());
  for (int i = 0; i < 1000; ++i) {
    pool->submit([&worked, i] { worked.push_back(i); },
                 [&, i] {
                   done.push_back(i);
                   if (i == 999) all.set({});
                 });
  }
  EXPECT_EQ(pool->pending(), 1000u);
  EXPECT_EQ(world->run(wait_for(all.future())), 0);
  EXPECT_EQ(worked, done);
  EXPECT_EQ(done.size(), 1000u);
}

TEST_F(RealLoop, PoolsDestructorWaitsForWhatWasSubmitted) {
  std::atomic<int> ran = 0;
  {
    auto pool = world->make_pool("pool", 2);
    for (int i = 0; i < 100; ++i)
      pool->submit([&ran] { ++ran; }, [] {});
  }
  EXPECT_EQ(ran, 100);
}

TEST_F(RealLoop, FrameThatIsDestroyedWhileItsWorkRunsIsForgotten) {
  auto pool = world->make_pool("pool", 1);
  std::latch started(1);
  std::latch release(1);
  {
    TaskGroup group(world->executor(), world->clock());
    struct Body {
      static Task<void> run(BlockingPool* pool, std::latch* started, std::latch* release) {
        Result<int> result = co_await pool->run([started, release]() -> Result<int> {
          started->count_down();
          release->wait();
          return 1;
        });
        ADD_FAILURE() << "resumed with " << result.has_value();
      }
    };
    group.spawn(Body::run(pool.get(), &started, &release));
    started.wait();
  }
  release.count_down();
  pool.reset();
  EXPECT_EQ(world->run(sleep_once(world.get())), 0);
}

Task<int> signals(RealWorld* world) {
  Task<int> first = world->next_signal();
  TaskGroup group(world->executor(), world->clock());
  struct Body {
    static Task<void> raise_both() {
      ::kill(::getpid(), SIGTERM);
      ::kill(::getpid(), SIGHUP);
      co_return;
    }
    static Task<void> raise_soon(World* world) {
      co_await sleep(world, 1ms);
      co_await raise_both();
    }
  };
  group.spawn(Body::raise_soon(world));
  int one = co_await std::move(first);
  int two = co_await world->next_signal();
  EXPECT_TRUE((one == SIGTERM && two == SIGHUP) || (one == SIGHUP && two == SIGTERM));
  co_await group.stop();
  co_return one + two;
}

TEST_F(RealLoop, SignalsArriveOneACall) {
  EXPECT_EQ(world->run(signals(world.get())), SIGTERM + SIGHUP);
}

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0); }
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  void put(char c) { EXPECT_EQ(::write(ends[1], &c, 1), 1); }
  std::string take_all() {
    char buffer[64];
    ssize_t n = ::read(ends[0], buffer, sizeof(buffer));
    return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : "";
  }
  int ends[2];
};

TEST_F(RealLoop, WatchTellsAgainAndAgain) {
  Pipe pipe;
  Promise<void> done(world->executor());
  std::string got;
  auto watch = world->watch_readable(pipe.ends[0], [&] {
    got += pipe.take_all();
    if (got.size() < 3) {
      pipe.put(static_cast<char>('a' + got.size()));
    } else {
      done.set({});
    }
  });
  pipe.put('a');
  EXPECT_EQ(world->run(wait_for(done.future())), 0);
  EXPECT_EQ(got, "abc");
}

TEST_F(RealLoop, WatchMayGoAwayInsideItsCallbackAndLeavesTheDescriptorOpen) {
  Pipe pipe;
  Promise<void> done(world->executor());
  std::unique_ptr<RealWorld::Watch> watch;
  int calls = 0;
  watch = world->watch_readable(pipe.ends[0], [&] {
    ++calls;
    watch.reset();
    world->clock().call_at(world->clock().now() + 5ms, [&] { done.set({}); });
  });
  pipe.put('x');
  EXPECT_EQ(world->run(wait_for(done.future())), 0);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(pipe.take_all(), "x");
}

TEST_F(RealLoop, BootIdIsThatOfTheMachine) {
  EXPECT_EQ(world->boot_id().size(), 36u);
  EXPECT_EQ(world->boot_id(), RealWorld::make({})->boot_id());
}

TEST_F(RealLoop, MetricsShowHowOftenItSleeps) {
  EXPECT_EQ(world->run(sleep_once(world.get())), 0);
  std::string text = world->metrics().render();
  EXPECT_NE(text.find("cairn_runtime_loop_sleeps "), std::string::npos) << text;
  EXPECT_EQ(text.find("cairn_runtime_loop_sleeps 0"), std::string::npos) << text;
}

TEST_F(RealLoop, WhatIsLeftAtTheEndIsDestroyedNotRun) {
  auto held = std::make_shared<int>(1);
  world->executor().post([held] { ADD_FAILURE(); });
  world->clock().call_at(world->clock().now() + 3600s, [held] { ADD_FAILURE(); });
  auto promise = std::make_shared<Promise<void>>(world->executor());
  world->executor().post([promise, held] { ADD_FAILURE(); });
  promise.reset();
  world.reset();
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace cairn
