#pragma once
// A backend in front of another that can leave out what SP and CP cost, for measuring it. The trainer computes the
// value of every term in every step, also of those with weight 0, so comparing weights alone would hide that part.
#include "kernels/ops.h"

namespace strand {

enum class Computed : uint8_t { yes, no };

class TermSwitch final : public Ops {
 public:
  explicit TermSwitch(Ops& behind) : Ops(behind.device()), behind_(behind) {}

  /// `no` drops the operations that compute the term's value (Gram matrices of z; masses and joint matrices). Its
  /// weight must then be 0, and the value stays 0.
  void specialization(Computed computed) { specialization_ = computed; }
  void coupling(Computed computed) { coupling_ = computed; }

  const char* name() const override { return behind_.name(); }

#define STRAND_OVERRIDE_RUN(Name, family) void run(const Name&) override;
  STRAND_FOR_EACH_OP(STRAND_OVERRIDE_RUN)
#undef STRAND_OVERRIDE_RUN

 private:
  Ops& behind_;
  Computed specialization_ = Computed::yes;
  Computed coupling_ = Computed::yes;
};

}  // namespace strand
