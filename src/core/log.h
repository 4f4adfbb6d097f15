#pragma once
// Messages for people, on stderr, through spdlog. Format at the call: log_info(fmt::format(...)).
#include <string>

namespace strand {

void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);
/// Nothing below errors is printed: for ranks other than 0, as what one has to say they all have.
void log_quiet();

}  // namespace strand
