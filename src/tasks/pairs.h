#pragma once
// Pairs of texts from a file, for `strand score`: a JSON object a line, either {"context": ..., "continuation": ...} or
// {"text": ...}; plain, .gz or .zst.
#include "tasks/scorer.h"

namespace strand {

/// Throws Error naming file, line and field.
std::vector<TextRequest> read_pairs(const std::string& path);

}  // namespace strand
