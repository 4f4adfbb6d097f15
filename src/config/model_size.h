#pragma once
// How large a model is and what a token costs, by formula: the one place for these counts (MFU, tables, tests).
// Letters as everywhere: V, D, L, H, G, A, E, K, F, S; n = dense layers of width F_d, s = shared experts.
#include <cstdint>

#include "config/config.h"

namespace strand {

struct ModelSize {
  /// Every trained weight once (a tied embedding once), norms included; the balancing bias is not trained.
  ///   V D (twice when untied) + D + L (2D + attention [+ qk-norms]) + (L-n)(E D + 3 D F (E + s)) + n 3 D F_d,
  ///   attention = (H + 2G) A D + H A D
  int64_t parameters = 0;
  /// Every matrix element that a token is multiplied by; the head counts, the look-up in the embedding does not:
  ///   V D + L attention + (L-n)(E D + 3 D F (K + s)) + n 3 D F_d
  int64_t active_parameters = 0;
  /// Forward and backward of one token, causal attention counted as half of the square:
  ///   6 active_parameters + 6 L S H A
  double training_flops_per_token = 0.0;
};

/// `config` has passed check_model_config (which bounds the total, so that nothing here overflows); its vocab_size
/// is known.
ModelSize model_size(const Config& config);

}  // namespace strand
