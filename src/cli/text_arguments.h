#pragma once
// The arguments of commands that read text (data/text_reader.h).
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "data/text_reader.h"

namespace strand::cli {

/// INPUT, --text-key, --skip-bad-records and --max-document.
void add_text_arguments(CLI::App& command, std::vector<std::string>& inputs, TextOptions& options);

}  // namespace strand::cli
