#pragma once
// Messages for people, on stderr, through spdlog. Format at the call: log_info(fmt::format(...)).
#include <string>

namespace strand {

void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);
/// Nothing below warnings is printed (ranks other than 0, tests).
void log_quiet();

}  // namespace strand
