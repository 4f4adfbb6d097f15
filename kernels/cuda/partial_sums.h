#pragma once
// The second half of every sum over a grid. Blocks write partial sums into the workspace, each where nobody else
// writes; these kernels add them in the order of the blocks, so that the result does not depend on which block came
// first.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/workspaces.h"

namespace strand::gpu {

/// out[c] += Σ_b partial[b · stride + c] for c < columns, b < rows. All in device memory.
void add_column_sums(cudaStream_t stream, const float* partial, int64_t rows, int64_t stride, int64_t columns,
                     float* out);

/// Several scalars that one kernel sums together.
struct ScalarSums {
  static constexpr int most = 4;
  int count = 1;
  double* out[most] = {};    ///< device memory; nullptr: nobody wants this one
  double factor[most] = {};  ///< of the sum
};

/// out_i += factor_i Σ_b partial[b · count + i] for b < blocks.
void add_scalar_sums(cudaStream_t stream, const double* partial, int64_t blocks, const ScalarSums& sums);

}  // namespace strand::gpu
