#pragma once
// The CPU backend as the rest of the program sees it. Its kernels are compiled several times, once for each level of
// instruction sets; which of them run is decided once, at the first use, by what the CPU has (isa.h).
#include <memory>

#include "kernels/host_device.h"
#include "kernels/ops.h"

namespace strand {

class CpuDevice final : public HostDevice {
 public:
  /// Operations run on `threads` OpenMP threads of this process; 0 leaves OpenMP's number as it is.
  explicit CpuDevice(int threads = 0);

  const char* name() const override { return "cpu"; }
  DeviceTraits traits() const override;
  /// On the chosen level. Throws Error when STRAND_ISA names no level that this CPU and this build have.
  std::unique_ptr<Ops> make_ops() override;
  int threads() const override;
  PeakRate measure_peak(PeakKind kind, int rounds) override;
  std::string description() const override;
  std::string arithmetic() const override;
  std::string bf16_remark() const override;
};

/// Operations on a device that lives as long as the process and leaves the number of threads alone.
std::unique_ptr<Ops> make_cpu_ops();

}  // namespace strand
