#pragma once
#include "kernels/ops/experts.h"
#include "kernels/reference/view.h"

namespace strand::reference {

/// Rows from here on belong to no expert: they are neither read nor written.
inline int64_t rows_in_use(const RowMap& map) {
  const auto offsets = ids(map.offsets);
  return offsets(offsets.dim(0) - 1);
}

}  // namespace strand::reference
