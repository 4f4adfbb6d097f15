#include "config/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace strand {
namespace {

double rotary_dim(const ModelConfig& m) {
  return static_cast<double>(m.rotary_dim());
}

/// d(ρ): the index, not rounded, of the frequency that makes ρ turns in the original context.
double index_of_turns(const ModelConfig& m, double turns) {
  const double length = static_cast<double>(m.yarn_original_length);
  return rotary_dim(m) * std::log(length / (2 * std::numbers::pi * turns)) / (2 * std::log(m.rope_theta));
}

/// m(μ)
double magnitude(const ModelConfig& m, double mscale) {
  return m.yarn_factor <= 1 || mscale == 0 ? 1 : 0.1 * mscale * std::log(m.yarn_factor) + 1;
}

}  // namespace

YarnRamp yarn_ramp(const ModelConfig& m) {
  YarnRamp ramp{std::max(std::floor(index_of_turns(m, m.yarn_beta_fast)), 0.0),
                std::min(std::ceil(index_of_turns(m, m.yarn_beta_slow)), rotary_dim(m) - 1)};
  if (ramp.low == ramp.high) ramp.high += 0.001;
  return ramp;
}

double rotary_frequency(const ModelConfig& m, int64_t i) {
  const double frequency = std::pow(m.rope_theta, -2.0 * static_cast<double>(i) / rotary_dim(m));
  if (!m.yarn()) return frequency;
  const YarnRamp ramp = yarn_ramp(m);
  const double divided = std::clamp((static_cast<double>(i) - ramp.low) / (ramp.high - ramp.low), 0.0, 1.0);
  return frequency * (1 - divided) + frequency / m.yarn_factor * divided;
}

double rotary_magnitude(const ModelConfig& m) {
  return m.yarn() ? magnitude(m, m.yarn_mscale) / magnitude(m, m.yarn_mscale_all_dim) : 1;
}

double score_factor(const ModelConfig& m) {
  if (!m.yarn() || !m.latent()) return 1;
  const double once = magnitude(m, m.yarn_mscale_all_dim);
  return once * once;
}

}  // namespace strand
