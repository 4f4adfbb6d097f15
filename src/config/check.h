#pragma once
// The checks behind check_config. The caller reports what they find, because the reader of the YAML knows in which line
// a value stands. This header is private to config/.
#include <functional>
#include <string>
#include <vector>

#include "config/config.h"

namespace strand::schema {

/// Throws an error with `message` about the keys `paths`. The first key is at fault, and the others take part in it.
using Complain = std::function<void(const std::vector<std::string>& paths, const std::string& message)>;

void resolve_derived(Config& config, const Complain& complain);
/// Which groups are checked: those that describe a model, or all.
enum class Part { model, everything };
void check_ranges(const Config& config, Part part, const Complain& complain);
/// Checks combinations of keys, when each key is in its own range.
void check_combinations(const Config& config, Part part, const Complain& complain);

}  // namespace strand::schema
