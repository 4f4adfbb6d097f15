#pragma once
// How the program ends when something went wrong: one line on stderr, whatever the number of processes.
#include <exception>
#include <functional>
#include <string>

#include "parallel/launch.h"

namespace strand::cli {

/// What an exception says, in strand's words where the standard library's speak of its functions.
std::string words_of(const std::exception& error);

/// Prints "strand: error: MESSAGE" on one line; returns `code`.
int report_error(std::string message, int code);

/// The same for a process among others, all of which it ends. Rank 0 speaks at once; another rank first leaves it a
/// second, so that an error which all ranks share is told once, and then says which rank it is. One process returns.
int end_with_error(Processes& processes, const std::string& message, int code);

/// Runs `work`. An error of several processes ends them in here, before the memory is freed that collectives in
/// progress still read and write; one process throws it.
void run_together(Processes& processes, const std::function<void()>& work);

}  // namespace strand::cli
