#pragma once
// Runs the built program and keeps what it said.
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace strand {

struct Outcome {
  int status = -1;  ///< exit code; 128 + n after signal n
  std::string out;
  std::string err;
};

/// Runs `strand ARGS...` without a shell, in `directory` when it is not empty, and waits for its end. `meanwhile` (may
/// be empty) is called with the process once it is started.
Outcome run_strand(const std::vector<std::string>& arguments, const std::string& directory = "",
                   const std::function<void(pid_t)>& meanwhile = {});

/// Runs any command in the same way. The first word is the path of its program.
Outcome run_program(std::vector<std::string> words, const std::string& directory = "",
                    const std::function<void(pid_t)>& meanwhile = {});

/// How a process is started.
struct Start {
  std::string directory;           ///< "" = this one
  std::function<void()> in_child;  ///< called in the new process just before the program: descriptors, limits, ...
  std::function<void(pid_t)> meanwhile;  ///< called here once the program is started
};

/// Runs a command that is started as `start` says. When in_child redirects standard output, that output is not kept.
Outcome run_started(std::vector<std::string> words, const Start& start);

/// What a program wrote to a pseudo-terminal.
struct OnTerminal {
  int status = -1;   ///< as in Outcome
  std::string text;  ///< standard output and standard error, as a terminal receives them
};

/// Runs a command on a terminal of so many columns.
OnTerminal run_on_terminal(std::vector<std::string> words, int columns, const Start& start);

/// For in_child: `descriptor` becomes the file `path`, opened for writing.
void redirect(int descriptor, const char* path);

/// The path of the built program.
std::string strand_program();

}  // namespace strand
