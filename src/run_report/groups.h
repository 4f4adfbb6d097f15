#pragma once
// Several runs in one report: runs that differ in nothing but the seed form a group, which has one color, the mean of
// its runs, and their range.
#include <string>
#include <vector>

#include "run_report/run_files.h"

namespace strand::run_report {

struct Group {
  std::string name;
  int color = 0;
  std::vector<const RunFiles*> runs;

  /// Of one column of the log.
  Band band(const std::string& column) const;
};

/// In the order in which their first runs are given. Throws Error when there are more than can be told apart.
std::vector<Group> groups_of(const std::vector<RunFiles>& runs);

/// Validation loss at the end: the mean over the last three validations, or of the last rows of ce where the run has no
/// validation. NaN without either.
double endpoint(const RunFiles& run);

/// Difference of two groups, by the runs that have equal seeds.
struct PairedDifference {
  std::string method, base;
  std::vector<double> differences;  ///< endpoint of the method minus that of the base, by ascending seed
};
/// Each group against the first one.
std::vector<PairedDifference> paired_differences(const std::vector<Group>& groups);

}  // namespace strand::run_report
