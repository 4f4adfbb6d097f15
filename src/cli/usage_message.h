#pragma once
// What people are told about a command line that cannot be understood.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace strand::cli {

/// Throws UsageError for a first word that is neither a command nor an option: it names the nearest command. `words`
/// are those after the name of the program.
void require_known_command(const CLI::App& app, const std::vector<std::string>& words);

/// The message about an error that CLI11 found. An unknown option comes first, whatever else is wrong, because other
/// errors often follow from it; it is answered with the nearest option of the command. Every message names the command
/// and its help.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error);

}  // namespace strand::cli
