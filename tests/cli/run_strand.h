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

/// The same with the words of any command, the program's path first.
Outcome run_program(std::vector<std::string> words, const std::string& directory = "",
                    const std::function<void(pid_t)>& meanwhile = {});

/// The path of the built program.
std::string strand_program();

}  // namespace strand
