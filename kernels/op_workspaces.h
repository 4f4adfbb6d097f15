#pragma once
// How many bytes each operation of a backend works in beside its tensors: partial sums of blocks, rows of threads,
// packed operands. Operations run one after another, so a backend has one block for all of them, its *workspace*, which
// is as large as the operation that needs most. A plan asks for these sizes, so that the workspace is in it.
#include <cstddef>

#include "kernels/ops.h"

namespace strand {

class OpWorkspaces {
 public:
  virtual ~OpWorkspaces() = default;
  // Only shapes, types and options of the operation count: its tensors may have no memory.
#define STRAND_DECLARE_BYTES(Name, family)  \
  virtual size_t bytes(const Name&) const { \
    return 0;                               \
  }
  STRAND_FOR_EACH_OP(STRAND_DECLARE_BYTES)
#undef STRAND_DECLARE_BYTES
};

}  // namespace strand
