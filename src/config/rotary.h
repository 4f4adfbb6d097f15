#pragma once
// Frequencies and magnitudes of rotary positions, with and without YaRN (Peng et al. 2023,
// https://arxiv.org/abs/2309.00071). docs/mathematics.md, section 2, defines them.
#include <cstdint>

#include "config/config.h"

namespace strand {

/// Where YaRN goes from frequencies that stay to frequencies that are divided by yarn_factor, in indices i of the R/2
/// frequencies. R = model.rotary_dim().
struct YarnRamp {
  double low;   ///< up to it, frequencies stay; at least 0
  double high;  ///< from it on, they are divided; at most R − 1. Below `low` in configurations that are refused
};
YarnRamp yarn_ramp(const ModelConfig& model);

/// The angle, in radians, by which pair i of the rotated dimensions turns from one position to the next; 0 ≤ i < R/2.
double rotary_frequency(const ModelConfig& model, int64_t i);

/// What cosine and sine are multiplied by. 1 without YaRN.
double rotary_magnitude(const ModelConfig& model);

/// What scores are multiplied by, beside head_dim^-½. 1 but for latent attention under YaRN.
double score_factor(const ModelConfig& model);

}  // namespace strand
