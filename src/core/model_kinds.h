#pragma once
// Kinds of models that the configuration names and operations compute. They stand here because a configuration and the
// operations do not include one another.
#include <cstdint>

namespace strand {

/// How router logits become scores (kernels/ops/router.h).
enum class RouterScore : uint8_t { softmax, sigmoid };

/// The experts of the lower layer whose coupling with the upper one counts: all, or those that the token selected
/// (kernels/ops/coupling.h).
enum class CouplingSources : uint8_t { all, activated };

}  // namespace strand
