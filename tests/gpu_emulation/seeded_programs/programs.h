#pragma once
// Faulty CUDA programs, each with one fault of a kind that people make, and correct ones beside them (controls). They
// are small and for themselves; planted_bugs has faults in the product's own kernels.
#include <vector>

namespace seeded_programs {

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

// By family, each in a file of its own.
std::vector<Bug> order_within_a_block();
std::vector<Bug> memory();
std::vector<Bug> order_between_blocks();
std::vector<Bug> streams();
std::vector<Bug> arguments_and_graphs();

}  // namespace seeded_programs
