#include "common/base/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

using testing::HasSubstr;

TEST(Metrics, AreRenderedInPrometheusTextFormat) {
  Metrics metrics;
  metrics.counter("cairn_test_calls_total", "Calls.", {{"method", "read"}}).add();
  metrics.counter("cairn_test_calls_total", "Calls.", {{"method", "write"}}).add(41);
  metrics.gauge("cairn_test_open_files", "Open files.").set(3);
  auto& latency = metrics.histogram("cairn_test_call_seconds", "Time.", {0.001, 0.1});
  latency.observe(0.01);
  latency.observe(5);
  std::string text = metrics.render();
  EXPECT_THAT(text, HasSubstr("# HELP cairn_test_calls_total Calls.\n# TYPE cairn_test_calls_total counter\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_calls_total{method=\"read\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_calls_total{method=\"write\"} 41\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_open_files 3\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_call_seconds_bucket{le=\"0.001\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_call_seconds_bucket{le=\"0.1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("cairn_test_call_seconds_bucket{le=\"+Inf\"} 2\n"));
}

TEST(Metrics, TheSameNameAndLabelsGiveTheSameHandle) {
  Metrics metrics;
  auto& a = metrics.counter("cairn_x_total", "X.", {{"disk", "a"}});
  auto& b = metrics.counter("cairn_x_total", "X.", {{"disk", "b"}});
  EXPECT_EQ(&a, &metrics.counter("cairn_x_total", "X.", {{"disk", "a"}}));
  EXPECT_NE(&a, &b);
  a.add(2);
  EXPECT_EQ(a.value(), 2);
  EXPECT_EQ(b.value(), 0);
}

TEST(Metrics, CollectCallbacksRunBeforeEachRenderAndMayAskForHandles) {
  Metrics metrics;
  int runs = 0;
  metrics.on_collect([&] { metrics.gauge("cairn_runs", "Runs.").set(++runs); });
  EXPECT_THAT(metrics.render(), HasSubstr("cairn_runs 1\n"));
  EXPECT_THAT(metrics.render(), HasSubstr("cairn_runs 2\n"));
}

TEST(Metrics, LatencyBoundsGoFrom50MicrosecondsTo10Seconds) {
  auto bounds = latency_bounds_seconds();
  EXPECT_DOUBLE_EQ(bounds.front(), 50e-6);
  EXPECT_DOUBLE_EQ(bounds.back(), 10);
  EXPECT_TRUE(std::is_sorted(bounds.begin(), bounds.end()));
}

}  // namespace
}  // namespace cairn
