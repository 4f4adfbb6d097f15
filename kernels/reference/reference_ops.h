#pragma once
// The textbook: every operation in double precision as plain loops, written to be read and compared with
// docs/mathematics.md and papers. Tests hold the fast backends against it, and it against finite differences. act = acc
// = f64.
#include "kernels/host_device.h"
#include "kernels/ops.h"

namespace strand {

class ReferenceDevice final : public HostDevice {
 public:
  const char* name() const override { return "reference"; }
  DeviceTraits traits() const override { return {}; }
  std::unique_ptr<Ops> make_ops() override;
  PeakRate measure_peak(PeakKind, int) override { return {}; }
  std::string description() const override { return "plain loops in double precision, one thread"; }
};

class ReferenceOps final : public Ops {
 public:
  explicit ReferenceOps(Device& device) : Ops(device) {}
  /// On a device that lives as long as the process.
  ReferenceOps();

  const char* name() const override { return "reference"; }

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN
};

}  // namespace strand
