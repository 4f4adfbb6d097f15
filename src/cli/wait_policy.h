#pragma once
// How OpenMP's threads wait for each other.

namespace strand::cli {

/// By default they spin for milliseconds before they sleep, so where anything else wants the cores, each waits in the
/// way of the one it waits for: a step was seen to take five times as long. Spinning for some tens of microseconds is
/// as fast on cores of one's own, and was 1.5 to 1.7 times faster than the default on that shared machine (sleeping at
/// once: 2.4 to 3 times, but some percent slower on cores of one's own; OMP_WAIT_POLICY=passive asks for it). OpenMP
/// reads its settings before main(), so the program sets GOMP_SPINCOUNT (GCC) and KMP_BLOCKTIME (clang) and starts
/// itself again, once; whoever set one of the three variables has decided.
void spin_briefly(char** argv);

}  // namespace strand::cli
