#include "core/version.h"

namespace strand {

const char* program_version() {
  return STRAND_VERSION;
}

}  // namespace strand
