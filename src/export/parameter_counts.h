#pragma once
// What the elements of an exported model are, so that its number of parameters can be compared with that of the run.
#include <cstdint>
#include <vector>

#include "config/config.h"
#include "export/family.h"

namespace strand::hf {

/// written = trained + bias + constants + copies
struct ParameterCounts {
  int64_t written = 0;    ///< all elements of all tensors
  int64_t trained = 0;    ///< every trained weight, counted once: ModelSize::parameters, as plan and train print it
  int64_t bias = 0;       ///< of expert selection, which is set by a rule and not trained
  int64_t constants = 0;  ///< tensors that the class or architecture needs, and our model does not have
  int64_t copies = 0;     ///< the head of a tied model, where it is written beside the embedding
};

/// Of a model that is written by these rules. `config` is resolved, and its vocabulary known.
ParameterCounts count_parameters(const std::vector<TensorRule>& rules, const Config& config);

}  // namespace strand::hf
