#pragma once
// The size of a model and the cost of a token, by formula. MFU, tables and tests take these counts from here. The
// letters are those of docs/mathematics.md; n is the number of dense layers, of width F_d, and s that of shared
// experts.
#include <cstdint>

#include "config/config.h"

namespace strand {

struct ModelSize {
  /// Every trained weight, norms included, each counted once (a tied embedding too). The balancing bias is not trained.
  ///   V D (twice when untied) + D + L (2D + attention [+ qk-norms]) + (L-n)(E D + 3 D F (E + s)) + n 3 D F_d,
  ///   attention = (H + 2G) A D + H A D;  with latent attention, r = q_latent, c = kv_latent, n + p = A:
  ///   attention = H A D [or r (D + H A)] + (c + p) D + H (n + v) c + H v D, and its norms have c [+ r] weights
  int64_t parameters = 0;
  /// Every matrix element that a token is multiplied by. The head counts, the look-up in the embedding does not:
  ///   V D + L attention + (L-n)(E D + 3 D F (K + s)) + n 3 D F_d
  int64_t active_parameters = 0;
  /// FLOPs of forward and backward for one token. Causal attention counts as half of the square:
  ///   6 active_parameters + 6 L S H (A + v) / 2, where v is the width of a value (A, but for latent attention)
  double training_flops_per_token = 0.0;
};

/// `config` has passed check_model_config, which bounds the total so that nothing here overflows, and its vocab_size is
/// known.
ModelSize model_size(const Config& config);

}  // namespace strand
