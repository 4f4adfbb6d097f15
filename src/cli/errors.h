#pragma once
// How the program ends when something went wrong: with one line on standard error, whatever the number of processes.
#include <exception>
#include <functional>
#include <string>

#include "parallel/launch.h"

namespace strand::cli {

/// The message of an exception. Messages of the standard library that speak of its functions are replaced by our own.
std::string words_of(const std::exception& error);

/// Prints "strand: error: MESSAGE" on one line; returns `code`.
int report_error(std::string message, int code);

/// The same for one process of several: it prints the message and ends all processes. Rank 0 prints it at once. Another
/// rank first waits for a second, so that an error of all ranks is printed once, and then says which rank it is. With
/// one process it returns `code`.
int end_with_error(Processes& processes, const std::string& message, int code);

/// Runs `work`. With several processes, an error ends them in this function, before the memory is freed that
/// collectives in progress still use. With one process the error is thrown.
void run_together(Processes& processes, const std::function<void()>& work);

}  // namespace strand::cli
