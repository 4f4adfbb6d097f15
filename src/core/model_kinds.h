#pragma once
// Kinds of models that the configuration names and operations compute. They stand here because a configuration and the
// operations do not include one another.
#include <cstdint>

namespace strand {

/// RMSNorm of queries and keys before their rotation: none, over the values of each head, or over those of all heads of
/// a token (kernels/ops/attention.h).
enum class QkNorm : uint8_t { none, head, full };

/// How router logits become scores (kernels/ops/router.h).
enum class RouterScore : uint8_t { softmax, sigmoid };

/// The experts of the lower layer whose coupling with the upper one counts: all, or those that the token selected
/// (kernels/ops/coupling.h).
enum class CouplingSources : uint8_t { all, activated };

}  // namespace strand
