#pragma once
// How OpenMP's threads wait for each other.

namespace strand::cli {

/// By default they spin for milliseconds before they sleep: fastest on cores of one's own, several times slower where
/// anything else wants the cores, as each waits in the way of the one it waits for. Sleeping costs some microseconds a
/// parallel loop, below 1 % of a step, so it is the better default. OpenMP reads its settings before main(), so the
/// program sets OMP_WAIT_POLICY and starts itself again, once; whoever set it (or GOMP_SPINCOUNT, KMP_BLOCKTIME)
/// decided.
void prefer_sleeping_threads(char** argv);

}  // namespace strand::cli
