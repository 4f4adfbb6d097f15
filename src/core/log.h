#pragma once
// Messages for people, on standard error, through spdlog. The caller formats the text: log_info(fmt::format(...)).
#include <string>

namespace strand {

void log_info(const std::string& message);
void log_warning(const std::string& message);
/// From now on only errors are printed. Ranks other than 0 call it, because all ranks would print the same.
void log_quiet();

}  // namespace strand
