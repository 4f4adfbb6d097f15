#include "kernels/cpu/backend.h"

#include <omp.h>

#include "kernels/cpu/block_sizes.h"
#include "kernels/cpu/isa.h"

namespace strand {

CpuDevice::CpuDevice(int threads) {
  if (threads > 0) omp_set_num_threads(threads);
  cpu_level();  // oneDNN can be limited only before it is asked for anything
}

DeviceTraits CpuDevice::traits() const {
  return {.row_alignment = block_sizes::row_alignment, .workspaces = cpu_level().workspaces()};
}

std::unique_ptr<Ops> CpuDevice::make_ops() {
  return cpu_level().make_ops(*this);
}

int CpuDevice::threads() const {
  return omp_get_max_threads();
}

PeakRate CpuDevice::measure_peak(PeakKind kind, int rounds) {
  return cpu_level().measure_peak(kind, rounds);
}

std::string CpuDevice::description() const {
  return "instructions of the kernels: " + cpu_isa_text();
}

std::string CpuDevice::arithmetic() const {
  return cpu_isa_text();
}

std::string CpuDevice::bf16_remark() const {
  return strand::bf16_remark();
}

std::unique_ptr<Ops> make_cpu_ops() {
  static CpuDevice device;
  return device.make_ops();
}

}  // namespace strand
