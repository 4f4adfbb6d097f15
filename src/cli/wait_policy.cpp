#include "cli/wait_policy.h"

#include <unistd.h>

#include <cstdlib>
#include <initializer_list>

namespace strand::cli {

void spin_briefly(char** argv) {
  for (const char* decided : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"})
    if (std::getenv(decided) != nullptr) return;
  if (setenv("GOMP_SPINCOUNT", "10000", 1) != 0 || setenv("KMP_BLOCKTIME", "1", 1) != 0) return;
  execv("/proc/self/exe", argv);  // returns only when it cannot; then things are as they were
}

}  // namespace strand::cli
