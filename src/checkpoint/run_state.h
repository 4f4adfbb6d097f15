#pragma once
// RunState as state.json, in and out.
#include <string>

#include "checkpoint/checkpoint.h"

namespace strand {

/// The version of this program is written too, as versions["strand"].
std::string run_state_to_json(const RunState& state);
/// Throws Error beginning with `where` when anything is missing, unknown or of the wrong kind.
RunState run_state_from_json(const std::string& text, const std::string& where);

}  // namespace strand
