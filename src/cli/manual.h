#pragma once
// The manual page.
#include <CLI/CLI.hpp>
#include <string>

namespace strand::cli {

/// strand(1) in roff, for `man`: the commands with all their options and the keys of a configuration, from their
/// definitions, and what the environment, signals and exit codes mean.
std::string manual_page(const CLI::App& app);

}  // namespace strand::cli
