// ReadPredictor guesses whether a socket has bytes now, from how the last tries went. With requests and answers one at
// a time it is empty whenever its reader comes back, and each try costs a system call that says EAGAIN (0.3 us of a
// message's 4 to 7); with a stream of requests it is full, and waiting for the reactor first would cost more. A wrong
// guess costs time, never correctness. Pure.
#pragma once

#include <cstdint>

namespace cairn {

class ReadPredictor {
 public:
  // True: try to read at once. False: wait for the reactor first.
  bool worth_trying() { return luck_ > 0 || ++skipped_ % kProbeEvery == 0; }
  // How a try went that no event had asked for.
  void found(bool something) {
    if (something) {
      luck_ = kLuckMax;
    } else if (luck_ > 0) {
      --luck_;
    }
  }

 private:
  static constexpr uint32_t kLuckMax = 3;
  static constexpr uint32_t kProbeEvery = 16;
  uint32_t luck_ = kLuckMax;
  uint32_t skipped_ = 0;
};

}  // namespace cairn
