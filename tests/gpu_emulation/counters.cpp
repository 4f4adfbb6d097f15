#include "gpu_emulation/counters.h"

namespace gpu_emulation {

Counters& running_counters() {
  static Counters all;
  return all;
}

Counters counters() {
  return running_counters();
}

}  // namespace gpu_emulation
