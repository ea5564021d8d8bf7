#include "common/base/metrics.h"

#include <mutex>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <utility>

#include "common/base/check.h"

namespace cairn {
namespace {

class CounterHandle : public Counter {
 public:
  explicit CounterHandle(prometheus::Counter& counter) : counter_(counter) {}
  void add(double amount) override { counter_.Increment(amount); }
  double value() const override { return counter_.Value(); }

 private:
  prometheus::Counter& counter_;
};

class GaugeHandle : public Gauge {
 public:
  explicit GaugeHandle(prometheus::Gauge& gauge) : gauge_(gauge) {}
  void set(double value) override { gauge_.Set(value); }
  void add(double amount) override { gauge_.Increment(amount); }
  double value() const override { return gauge_.Value(); }

 private:
  prometheus::Gauge& gauge_;
};

class HistogramHandle : public Histogram {
 public:
  explicit HistogramHandle(prometheus::Histogram& histogram) : histogram_(histogram) {}
  void observe(double value) override { histogram_.Observe(value); }

 private:
  prometheus::Histogram& histogram_;
};

using Key = std::pair<std::string, Labels>;

}  // namespace

struct Metrics::Impl {
  std::mutex mutex;
  prometheus::Registry registry;
  std::map<Key, std::unique_ptr<Counter>> counters;
  std::map<Key, std::unique_ptr<Gauge>> gauges;
  std::map<Key, std::unique_ptr<Histogram>> histograms;
  std::vector<std::function<void()>> callbacks;
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::counter(std::string_view name, std::string_view help, const Labels& labels) {
  std::scoped_lock lock(impl_->mutex);
  std::unique_ptr<Counter>& handle = impl_->counters[Key(name, labels)];
  if (!handle) {
    auto& family = prometheus::BuildCounter().Name(std::string(name)).Help(std::string(help)).Register(impl_->registry);
    handle = std::make_unique<CounterHandle>(family.Add(labels));
  }
  return *handle;
}

Gauge& Metrics::gauge(std::string_view name, std::string_view help, const Labels& labels) {
  std::scoped_lock lock(impl_->mutex);
  std::unique_ptr<Gauge>& handle = impl_->gauges[Key(name, labels)];
  if (!handle) {
    auto& family = prometheus::BuildGauge().Name(std::string(name)).Help(std::string(help)).Register(impl_->registry);
    handle = std::make_unique<GaugeHandle>(family.Add(labels));
  }
  return *handle;
}

Histogram& Metrics::histogram(std::string_view name, std::string_view help, std::vector<double> bounds,
                              const Labels& labels) {
  std::scoped_lock lock(impl_->mutex);
  std::unique_ptr<Histogram>& handle = impl_->histograms[Key(name, labels)];
  if (!handle) {
    auto& family =
        prometheus::BuildHistogram().Name(std::string(name)).Help(std::string(help)).Register(impl_->registry);
    handle = std::make_unique<HistogramHandle>(family.Add(labels, std::move(bounds)));
  }
  return *handle;
}

void Metrics::on_collect(std::function<void()> callback) {
  CHECK(callback);
  std::scoped_lock lock(impl_->mutex);
  impl_->callbacks.push_back(std::move(callback));
}

std::string Metrics::render() {
  std::vector<std::function<void()>> callbacks;
  {
    std::scoped_lock lock(impl_->mutex);
    callbacks = impl_->callbacks;
  }
  // Without the lock: a callback may ask for a handle.
  for (const auto& callback : callbacks)
    callback();
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

std::vector<double> latency_bounds_seconds() {
  return {50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2, 5, 10};
}

}  // namespace cairn
