// Cross-entropy and its gradient.
#include <algorithm>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/ops/step_numbers.h"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 512, chunk = 8;

/// 8 elements of a row, or fewer at the end of the row.
template <typename T, bool WHOLE>
__device__ inline void load_chunk(float (&x)[chunk], const T* row, int64_t column, int64_t columns, float outside) {
  if constexpr (WHOLE) {
#pragma unroll
    for (int i = 0; i < chunk; i += Pack<T>::size) {
      const Pack<T> pack = load16(row + column + i);
#pragma unroll
      for (int j = 0; j < Pack<T>::size; ++j) x[i + j] = to_float(pack[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < chunk; ++i) x[i] = column + i < columns ? to_float(row[column + i]) : outside;
  }
}

template <typename T, bool WHOLE>
__device__ inline void store_chunk(T* row, int64_t column, int64_t columns, const float (&x)[chunk]) {
  if constexpr (WHOLE) {
#pragma unroll
    for (int i = 0; i < chunk; i += Pack<T>::size) {
      Pack<T> pack;
#pragma unroll
      for (int j = 0; j < Pack<T>::size; ++j) pack[j] = from_float<T>(x[i + j]);
      store16(row + column + i, pack);
    }
  } else {
#pragma unroll
    for (int i = 0; i < chunk; ++i)
      if (column + i < columns) row[column + i] = from_float<T>(x[i]);
  }
}

struct CrossEntropyArguments {
  const float* logits;  ///< [C, V]; not __restrict__: dlogits may be the same memory
  const int* targets;   ///< [C]
  int64_t rows, columns;
  const double* target_share;  ///< device memory
  double ce_weight;
  double* partial;  ///< [gridDim.x]: what each block adds to the loss
};

// A block owns rows blockIdx.x, + gridDim.x, …; thread i takes chunks i, i + 512, … of 8 logits. It reads a row for
// the largest logit and Σ exp in one pass, each thread rescaling its sum when its largest grows, and once more for the
// gradient: by then the row is in L2, as the grid has no more blocks than run at once. Reads 4 bytes a logit from
// memory and writes the gradient. Each element is read and then written by one thread, so the gradient may replace the
// logits.
template <typename T, bool WHOLE>
__global__ void __launch_bounds__(threads) cross_entropy_kernel(CrossEntropyArguments p, T* dlogits) {
  __shared__ float scratch[threads / 32];
  const double target_share = *p.target_share;
  const auto grad_scale = static_cast<float>(p.ce_weight * target_share);
  double loss = 0;
  for (int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    const float* const row = p.logits + r * p.columns;
    T* const drow = dlogits == nullptr ? nullptr : dlogits + r * p.columns;
    const int target = p.targets[r];
    const int64_t first = static_cast<int64_t>(threadIdx.x) * chunk, step = threads * chunk;
    float x[chunk];
    if (target < 0) {  // ignored; the whole block alike
      if (drow == nullptr) continue;
#pragma unroll
      for (int i = 0; i < chunk; ++i) x[i] = 0;
      for (int64_t c = first; c < p.columns; c += step) store_chunk<T, WHOLE>(drow, c, p.columns, x);
      continue;
    }
    float largest = -INFINITY, sum = 0;
    for (int64_t c = first; c < p.columns; c += step) {
      load_chunk<float, WHOLE>(x, row, c, p.columns, -INFINITY);
      float here = x[0];
#pragma unroll
      for (int i = 1; i < chunk; ++i) here = fmaxf(here, x[i]);
      if (here > largest) {
        sum *= expf(largest - here);
        largest = here;
      }
#pragma unroll
      for (int i = 0; i < chunk; ++i) sum += expf(x[i] - largest);
    }
    const float row_largest = block_max(largest, scratch);
    // A thread without logits has sum 0 and largest −∞.
    const float row_sum = block_sum(sum * expf(largest - row_largest), scratch);
    const float logsumexp = row_largest + logf(row_sum);
    if (threadIdx.x == 0) loss += target_share * (static_cast<double>(logsumexp) - static_cast<double>(row[target]));
    if (drow == nullptr) continue;
    __syncthreads();  // row[target] is read before its gradient may replace it
    for (int64_t c = first; c < p.columns; c += step) {
      load_chunk<float, WHOLE>(x, row, c, p.columns, -INFINITY);
#pragma unroll
      for (int i = 0; i < chunk; ++i) x[i] = grad_scale * (expf(x[i] - logsumexp) - (c + i == target ? 1.0f : 0.0f));
      store_chunk<T, WHOLE>(drow, c, p.columns, x);
    }
  }
  if (threadIdx.x == 0) p.partial[blockIdx.x] = loss;
}

template <typename T>
void launch(const CrossEntropyArguments& arguments, const Tensor& dlogits, int64_t blocks, bool whole,
            cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(blocks));
  if (whole)
    GPU_LAUNCH((cross_entropy_kernel<T, true>), grid, dim3(threads), 0, stream, arguments, data<T>(dlogits));
  else
    GPU_LAUNCH((cross_entropy_kernel<T, false>), grid, dim3(threads), 0, stream, arguments, data<T>(dlogits));
}

}  // namespace

void CudaOps::run(const CrossEntropy& op) {
  const int64_t rows = op.logits.dim(0), columns = op.logits.dim(1);
  if (rows == 0) return;
  const int64_t blocks = std::min({rows, int64_t{3} * multiprocessors_, most_scalar_blocks});
  const CrossEntropyArguments arguments{.logits = data<float>(op.logits),
                                        .targets = data<int32_t>(op.targets),
                                        .rows = rows,
                                        .columns = columns,
                                        .target_share = data<double>(op.numbers) + place(StepNumber::target_share),
                                        .ce_weight = op.ce_weight,
                                        .partial = workspace_of<double>(op, blocks)};
  const auto aligned = [](const Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0; };
  const bool whole = columns % chunk == 0 && aligned(op.logits) && aligned(op.dlogits);
  if (op.dlogits)
    dispatch_act(op.dlogits.dtype, [&](auto act) {
      launch<typename decltype(act)::type>(arguments, op.dlogits, blocks, whole, stream_);
    });
  else
    launch<float>(arguments, op.dlogits, blocks, whole, stream_);
  add_scalar_sums(stream_, arguments.partial, blocks, {.count = 1, .out = {data<double>(op.ce)}, .factor = {1}});
}

}  // namespace strand
