#pragma once
// The arguments of commands that read text (data/text_reader.h) or token files (data/token_file.h).
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "data/text_reader.h"

namespace strand::cli {

/// INPUT, --text-key, --skip-bad-records and --max-document.
void add_text_arguments(CLI::App& command, std::vector<std::string>& inputs, TextOptions& options);

/// --format of a token file. `format` outlives the parse.
void add_token_format(CLI::App& command, std::string& format, const std::string& help);

}  // namespace strand::cli
