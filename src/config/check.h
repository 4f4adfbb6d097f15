#pragma once
// The checks behind check_config, with the reporting left to the caller: who read the YAML also knows the line.
// Private to config/.
#include <functional>
#include <string>
#include <vector>

#include "config/config.h"

namespace strand::schema {

/// Throws a message about `paths`, of which the first is at fault and the others take part.
using Complain = std::function<void(const std::vector<std::string>& paths, const std::string& message)>;

void resolve_derived(Config& config, const Complain& complain);
/// Each key by itself; of every group, or of those that describe a model.
enum class Part { model, everything };
void check_ranges(const Config& config, Part part, const Complain& complain);
/// Combinations of keys, each of which is in its range.
void check_combinations(const Config& config, Part part, const Complain& complain);

}  // namespace strand::schema
