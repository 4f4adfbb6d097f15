#pragma once
// Faulty CUDA programs, each with one fault of a kind that people make, and correct ones beside them (controls).
#include <vector>

namespace seeded_bugs {

/// What each way of building the emulation must say of a program: the kind of a report, "wrong" (no report, and wrong
/// results), "fault" (the process ends, or AddressSanitizer ends it), or "" (it cannot see it). With a question mark
/// before it, the order of the seed decides whether it is seen.
struct Bug {
  const char* name;
  bool (*run)();  ///< whether the results are right
  const char* plain;
  const char* sanitized;
  const char* checked;
};
const std::vector<Bug>& all();

}  // namespace seeded_bugs
