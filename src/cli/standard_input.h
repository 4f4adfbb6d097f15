#pragma once
// Where "-" names standard input on the command line. Options that take it say so in their help ("- is standard
// input"); all others refuse it (refuse_dash of command_line.h).
#include <string>

#include "parallel/launch.h"

namespace strand::cli {

/// The path to read what is `named`: "/dev/stdin" for "-", and any other name as it is.
std::string input_path(const std::string& named);

/// Throws Error when `named` is standard input and there are several processes, of which one alone receives it.
void require_input_of_all(const std::string& named, const Processes& processes);

}  // namespace strand::cli
