#include "kernels/cpu/backend.h"

#include "kernels/cpu/isa.h"

namespace strand {

std::unique_ptr<Ops> make_cpu_ops() {
  return cpu_level().make_ops();
}

PeakRate measure_peak(PeakKind kind, int rounds) {
  return cpu_level().measure_peak(kind, rounds);
}

}  // namespace strand
