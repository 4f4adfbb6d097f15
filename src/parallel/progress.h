#pragma once
// Where a rank is: written by the training thread as it goes, read by whoever has to say where it hangs.
#include <atomic>
#include <cstdint>

namespace strand {

struct Progress {
  std::atomic<int64_t> step{-1};             ///< optimizer step, from 0; −1 = not in one
  std::atomic<int64_t> layer{-1};            ///< −1 = not in one
  std::atomic<const char*> doing{"set-up"};  ///< text that lives as long as the program

  void now(const char* what) { doing.store(what, std::memory_order_relaxed); }
  void now(const char* what, int64_t in_layer) {
    layer.store(in_layer, std::memory_order_relaxed);
    now(what);
  }
};

}  // namespace strand
