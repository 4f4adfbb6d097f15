#pragma once
// How a run went, in words.
#include <string>
#include <vector>

#include "run_report/run_files.h"

namespace strand::run_report {

enum class Outcome { waiting, running, finished, not_finite };

struct Verdict {
  Outcome outcome;
  std::string text;  ///< one sentence
};

/// A run that has not finished may still go on; the log does not tell.
Verdict verdict_of(const RunFiles& run);

/// What somebody should look at, one sentence each, the gravest first. docs/run-report.md lists the rules.
std::vector<std::string> warnings_of(const RunFiles& run);

}  // namespace strand::run_report
