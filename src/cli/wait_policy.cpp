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
  // The path with which this program was started. /proc/self/exe is not used for two reasons: the name of a process is
  // the last part of the path that started it, so `ps`, `top` and `pkill` would know it as "exe"; and /proc may be
  // missing.
  const auto path = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  const bool started_by_the_loader = getauxval(AT_BASE) == 0;  // with `ld.so strand ...` the path is that of the loader
  if (path == nullptr || started_by_the_loader) return;
  if (setenv("GOMP_SPINCOUNT", "10000", 1) != 0 || setenv("KMP_BLOCKTIME", "1", 1) != 0) return;
  execv(path, argv);  // returns only when it fails, and then nothing has changed
}

}  // namespace strand::cli
