#pragma once
// The report of a run, or of several in comparison: one HTML file that needs nothing else. docs/run-report.md describes
// its panels. Equal files of the runs give equal bytes.
#include <cstdint>
#include <string>
#include <vector>

namespace strand::run_report {

inline constexpr const char* report_file = "report.html";  ///< in the directory of a run

/// The page. `refresh_seconds`: after which a browser reads it again; 0 = never. Throws Error for a directory that is
/// not of a run, a damaged file, or more kinds of runs than can be told apart.
std::string make_report(const std::vector<std::string>& directories, int64_t refresh_seconds);

/// Whether all of these runs have done their last step.
bool all_finished(const std::vector<std::string>& directories);

}  // namespace strand::run_report
