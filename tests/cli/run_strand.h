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

}  // namespace strand
