#pragma once
#include <chrono>

namespace strand {

/// Seconds on a clock that is never set back; only differences mean something.
inline double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace strand
