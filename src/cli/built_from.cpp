// The one file that is compiled anew after each commit.
#include "cli/built_from.h"

#include <commit.h>  // written at every build: cmake/StrandCommit.cmake

namespace strand::cli {

const char* built_from_commit() {
  return STRAND_COMMIT;
}

}  // namespace strand::cli
