#pragma once
// main() of Catch2 programs that run as several processes. Each rank runs every case, in the same order; a failed CHECK
// on any rank fails the program, and a rank that leaves a case early is what the watchdog is for.
#include "parallel/launch.h"

namespace strand::test {

constexpr double watchdog_seconds = 60;

/// The processes of this program.
Processes& processes();

}  // namespace strand::test
