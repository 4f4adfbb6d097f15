#pragma once
// How OpenMP's threads wait for each other.

namespace strand::cli {

/// By default they spin for milliseconds before they sleep, so where anything else wants the cores, each waits in the
/// way of the one it waits for: measured, five times slower. Spinning for some tens of microseconds keeps the speed of
/// cores of one's own and twice that of shared ones. OpenMP reads its settings before main(), so the program sets
/// GOMP_SPINCOUNT (GCC) and KMP_BLOCKTIME (clang) and starts itself again, once; whoever set one of the three variables
/// has decided.
void spin_briefly(char** argv);

}  // namespace strand::cli
