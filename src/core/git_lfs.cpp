#include "core/git_lfs.h"

#include "core/error.h"

namespace strand {

void refuse_lfs_pointer(std::string_view begin, const std::string& path) {
  require(!begin.starts_with(lfs_pointer_begin),
          "{} is a pointer of Git LFS, not the file itself; fetch the file first (git lfs pull)", path);
}

}  // namespace strand
