#pragma once
// Step numbers as backends read them whose memory is the host's.
#include "kernels/ops/step_numbers.h"

namespace strand {

inline double& step_number(const Tensor& numbers, StepNumber which) {
  return static_cast<double*>(numbers.data)[place(which)];
}

/// TokenSample with its key at hand.
class HostSample {
 public:
  explicit HostSample(const TokenSample& sample)
      : fraction_(sample.fraction), first_token_(static_cast<uint64_t>(sample.first_token)) {
    if (fraction_ >= 1.0) return;
    key_ = static_cast<uint64_t>(step_number(sample.numbers, StepNumber::sample_key_high)) << 32 |
           static_cast<uint64_t>(step_number(sample.numbers, StepNumber::sample_key_low));
  }
  /// Whether token `token` of the batch belongs to the sample.
  bool contains(int64_t token) const {
    return fraction_ >= 1.0 || random_uniform(key_, first_token_ + static_cast<uint64_t>(token)) < fraction_;
  }

 private:
  double fraction_;
  uint64_t first_token_;
  uint64_t key_ = 0;
};

/// ClipGradient on the host.
void clip_gradient(const ClipGradient& op);

}  // namespace strand
