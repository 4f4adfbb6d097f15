#pragma once
// How OpenMP's threads wait for each other.

namespace strand::cli {

/// By default, threads of OpenMP spin for milliseconds before they sleep. Where other programs use the same cores, a
/// thread that spins takes time from the thread it waits for; a step was seen to take five times as long. To spin for
/// some tens of microseconds only is as fast on cores that no other program uses, and was 1.5 to 1.7 times faster than
/// the default on that shared machine. To sleep at once (OMP_WAIT_POLICY=passive) was 2.4 to 3 times faster there, and
/// some percent slower on free cores. OpenMP reads its settings before main(), so this function sets GOMP_SPINCOUNT
/// (GCC) and KMP_BLOCKTIME (clang) and starts the program again, once. It does nothing when one of the three variables
/// is set.
void spin_briefly(char** argv);

}  // namespace strand::cli
