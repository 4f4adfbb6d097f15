#pragma once
// The textbook: every operation in double precision as plain loops, written to be read and compared with
// docs/mathematics.md and papers. Tests hold the fast backends against it, and it against finite differences. act = acc
// = f64.
#include "kernels/ops.h"

namespace strand {

class ReferenceOps final : public Ops {
 public:
  const char* name() const override { return "reference"; }
  void* allocate(size_t bytes) override;
  void deallocate(void* memory) noexcept override;
  void upload(const void* host, const Tensor& device) override;
  void download(const Tensor& device, void* host) override;
  void synchronize() override {}

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN
};

}  // namespace strand
