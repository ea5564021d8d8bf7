// Promise and Future: one result that arrives later, for one waiter on one loop.
//
// For what callbacks of the world complete: an answer that comes over the network, a timer, a pool's work. The first set() wins; later ones do
// nothing. If the Promise goes away unset the waiter gets kCancelled. A waiter whose frame is destroyed is forgotten. The waiter is resumed
// by post(), never inside set(), so set() is safe anywhere on the loop. Loop thread only.
#pragma once

#include <coroutine>
#include <memory>
#include <optional>

#include "common/base/result.h"
#include "common/runtime/executor.h"

namespace cairn {

namespace future_detail {
template <class T>
struct State {
  explicit State(Executor& executor_in) : executor(executor_in) {}
  Executor& executor;
  std::optional<Result<T>> result;
  std::coroutine_handle<> waiter;
};
}  // namespace future_detail

template <class T>
class Future {
 public:
  using State = future_detail::State<T>;
  explicit Future(std::shared_ptr<State> state) : state_(std::move(state)) {}
  Future(Future&&) noexcept = default;
  Future& operator=(Future&&) noexcept = default;

  bool ready() const { return state_->result.has_value(); }

  struct Awaiter {
    std::shared_ptr<State> state;
    bool waiting = false;

    explicit Awaiter(std::shared_ptr<State> state_in) : state(std::move(state_in)) {}
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    ~Awaiter() {
      if (waiting) state->waiter = {};
    }
    bool await_ready() const noexcept { return state->result.has_value(); }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
      waiting = true;
      state->waiter = handle;
    }
    Result<T> await_resume() {
      waiting = false;
      return std::move(*state->result);
    }
  };
  // Once only.
  Awaiter operator co_await() && { return Awaiter(std::move(state_)); }

 private:
  std::shared_ptr<State> state_;
};

template <class T>
class Promise {
 public:
  using State = future_detail::State<T>;
  explicit Promise(Executor& executor) : state_(std::make_shared<State>(executor)) {}
  Promise(Promise&&) noexcept = default;
  Promise& operator=(Promise&& other) noexcept {
    if (this != &other) {
      set(Error(ErrorCode::kCancelled));
      state_ = std::move(other.state_);
    }
    return *this;
  }
  ~Promise() { set(Error(ErrorCode::kCancelled)); }

  Future<T> future() const { return Future<T>(state_); }
  bool is_set() const { return !state_ || state_->result.has_value(); }

  void set(Result<T> result) {
    if (is_set()) return;
    state_->result.emplace(std::move(result));
    if (!state_->waiter) return;
    state_->executor.post([state = state_] {
      if (state->waiter) std::exchange(state->waiter, {}).resume();
    });
  }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace cairn
