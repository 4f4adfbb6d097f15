#pragma once
// Finds where numbers that are not finite came from. These functions read tensor by tensor from the device, so they are
// for a step that has failed and not for every step. All ranks call them together.
#include <string>

#include "model/session.h"

namespace strand {

/// The first weight, residual stream (of the last micro-step; its name tells the layer) or gradient that is not finite,
/// as "weight layers.3...", "activation ..." or "gradient of ...", or "". To be called while the gradients of the step
/// lie in memory. Of several ranks that find one, the lowest speaks for all.
std::string find_nonfinite(Session& session);

/// "weight NAME" of the first weight that is not finite, over all ranks, or "".
std::string nonfinite_weight(Session& session);

}  // namespace strand
