#include "gpu_emulation/planted_bugs/planted.h"

#include <cstdlib>

namespace gpu_emulation {

bool planted(int bug) {
  static const int here = [] {
    const char* text = std::getenv("STRAND_PLANTED_BUG");
    return text != nullptr ? std::atoi(text) : -1;
  }();
  return bug == here;
}

}  // namespace gpu_emulation
