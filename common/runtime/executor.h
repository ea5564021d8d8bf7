// The seam for running: a loop that runs functions one after the other on one thread.
//
// All state of a part is touched on its loop only; that is the thread rule of the whole project. What must block runs on a
// BlockingPool and comes back by post().
#pragma once

#include <functional>

namespace cairn {

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `fn` on the loop, after everything posted before, never inside this call. Thread-safe.
  virtual void post(std::move_only_function<void()> fn) = 0;
  // True on the loop's own thread.
  virtual bool on_loop() const = 0;
};

}  // namespace cairn
