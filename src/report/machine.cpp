#include "report/machine.h"

#include <fmt/core.h>

#include <fstream>
#include <map>

#include "core/cores.h"

namespace strand {

namespace {
/// The fields of the first processor in /proc/cpuinfo.
std::map<std::string, std::string> first_processor() {
  std::map<std::string, std::string> fields;
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && !line.empty()) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t key_end = line.find_last_not_of(" \t", colon == 0 ? 0 : colon - 1);
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    fields[line.substr(0, key_end + 1)] = value == std::string::npos ? "" : line.substr(value);
  }
  return fields;
}
}  // namespace

Machine this_machine() {
  std::map<std::string, std::string> fields = first_processor();
  std::string cpu = fields["model name"].empty() ? "unknown CPU" : fields["model name"];
  if (fields.count("cpu family") && fields.count("model"))
    cpu += fmt::format(" (family {}, model {})", fields["cpu family"], fields["model"]);
  return {.cpu = cpu, .cores = available_cores()};
}

}  // namespace strand
