#include "cli/standard_input.h"

#include "core/error.h"

namespace strand::cli {

namespace {
constexpr const char* standard_input = "/dev/stdin";
}

std::string input_path(const std::string& named) {
  return named == "-" ? standard_input : named;
}

void require_input_of_all(const std::string& named, const Processes& processes) {
  require(processes.size() == 1 || input_path(named) != standard_input,
          "standard input reaches one of {} processes alone; write it into a file, and give the name of the file",
          processes.size());
}

}  // namespace strand::cli
