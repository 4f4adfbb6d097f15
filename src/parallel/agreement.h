#pragma once
// Ranks that were started with different programs or configurations would not fail but train something else. So they
// are compared.
#include <string>

#include "parallel/control_channel.h"

namespace strand {

/// Throws Error, the same on every rank, unless `text` is the same on all of them: names the first rank that differs
/// from rank 0, and the first line in which it does.
void require_agreement(ControlChannel& all, const char* what, const std::string& text);

/// The message of that error, from the texts of all ranks. It is "" when they agree.
std::string disagreement(const char* what, const std::vector<std::string>& texts);

}  // namespace strand
