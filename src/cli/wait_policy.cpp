#include "cli/wait_policy.h"

#include <elf.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstdlib>
#include <initializer_list>

namespace strand::cli {

void spin_briefly(char** argv) {
  for (const char* decided : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"})
    if (std::getenv(decided) != nullptr) return;
  // The path that this program was started by. /proc/self/exe would do too, but a process is called by the last part of
  // the path that started it, so `ps`, `top` and `pkill` would know it as "exe"; and /proc may not be there.
  const auto path = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  const bool started_by_the_loader = getauxval(AT_BASE) == 0;  // `ld.so strand ...`: the path is the loader's
  if (path == nullptr || started_by_the_loader) return;
  if (setenv("GOMP_SPINCOUNT", "10000", 1) != 0 || setenv("KMP_BLOCKTIME", "1", 1) != 0) return;
  execv(path, argv);  // returns only when it cannot; then things are as they were
}

}  // namespace strand::cli
