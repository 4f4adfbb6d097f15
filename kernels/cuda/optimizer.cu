// The passes over all parameters. They are bound by memory, so each reads and writes every array once, and a thread
// takes 16 bytes at a time.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

// Thread i of the grid owns the groups of N elements i, i + threads of the grid, …; its sum is double, as products of
// two floats are exact there. One partial sum a block.
template <int N>
__global__ void __launch_bounds__(threads)
    sum_of_squares_kernel(const float* __restrict__ x, int64_t count, double* __restrict__ partial) {
  __shared__ double scratch[threads / 32];
  const int64_t step = static_cast<int64_t>(gridDim.x) * threads * N;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * N; i < count; i += step) {
    float group[N];
    load(x + i, group);
#pragma unroll
    for (int j = 0; j < N; ++j) sum += static_cast<double>(group[j]) * static_cast<double>(group[j]);
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

struct AdamParameters {
  float *weight, *m, *v;
  const float* gradient;
  int64_t count;
  double beta1, beta2, eps, decay;
  const double* numbers;  ///< StepNumber's vector
};

/// The factors of one update in the precision of the weights.
struct AdamStep {
  float gradient_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
  float rate;      ///< lr / (1 − β1^t)
  float v_to_hat;  ///< 1 / (1 − β2^t)
  float eps;
  float shrink;  ///< lr · decay

  __device__ void update(float& w, float g, float& m, float& v) const {
    g *= gradient_scale;
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    w -= change(w, m, v);
  }
  /// What is taken from a weight, given the moments after the update and the weight before it.
  __device__ float change(float w, float m, float v) const {
    return rate * m / (sqrtf(v * v_to_hat) + eps) + shrink * w;
  }
};

__device__ inline AdamStep adam_step(const AdamParameters& p) {
  const double learning_rate = p.numbers[place(StepNumber::learning_rate)];
  const double updates = p.numbers[place(StepNumber::updates)];
  AdamStep step;
  step.gradient_scale = static_cast<float>(p.numbers[place(StepNumber::gradient_scale)]);
  step.beta1 = static_cast<float>(p.beta1);
  step.one_minus_beta1 = static_cast<float>(1 - p.beta1);
  step.beta2 = static_cast<float>(p.beta2);
  step.one_minus_beta2 = static_cast<float>(1 - p.beta2);
  step.rate = static_cast<float>(learning_rate / (1 - pow(p.beta1, updates)));
  step.v_to_hat = static_cast<float>(1 / (1 - pow(p.beta2, updates)));
  step.eps = static_cast<float>(p.eps);
  step.shrink = static_cast<float>(learning_rate * p.decay);
  return step;
}

// Thread i of the grid owns the groups of N weights i, i + threads of the grid, …. Reads w, g, m and v, writes w, m, v
// and the rounded copy. The first thread of a block computes the step's factors for all of it.
template <typename T, int N>
__global__ void __launch_bounds__(threads) adam_kernel(AdamParameters p, T* __restrict__ copy) {
  __shared__ AdamStep step;
  if (p.numbers[place(StepNumber::apply)] == 0) return;  // the whole grid
  if (threadIdx.x == 0) step = adam_step(p);
  __syncthreads();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * threads * N;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * N; i < p.count; i += stride) {
    float w[N], g[N], m[N], v[N];
    load(p.weight + i, w);
    load(p.gradient + i, g);
    load(p.m + i, m);
    load(p.v + i, v);
#pragma unroll
    for (int j = 0; j < N; ++j) step.update(w[j], g[j], m[j], v[j]);
    store(p.weight + i, w);
    store(p.m + i, m);
    store(p.v + i, v);
    if (copy != nullptr) store(copy + i, w);
  }
}

// Thread i of the grid owns the groups of N weights i, i + threads of the grid, …. Two partial sums a block: Σ Δw² and
// Σ w², in double. Reads w, m and v.
template <int N>
__global__ void __launch_bounds__(threads) sum_of_updates_kernel(AdamParameters p, double* __restrict__ partial) {
  __shared__ AdamStep step;
  __shared__ double scratch[threads / 32];
  if (threadIdx.x == 0) step = adam_step(p);
  __syncthreads();
  const bool applied = p.numbers[place(StepNumber::apply)] != 0;
  const float grow = 1 / (1 - step.shrink);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * threads * N;
  double update = 0, weight = 0;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * N; i < p.count; i += stride) {
    float w[N], m[N], v[N];
    load(p.weight + i, w);
    load(p.m + i, m);
    load(p.v + i, v);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const double moved = applied ? static_cast<double>(grow * step.change(w[j], m[j], v[j])) : 0;
      update += moved * moved;
      weight += static_cast<double>(w[j]) * static_cast<double>(w[j]);
    }
  }
  update = block_sum(update, scratch);
  weight = block_sum(weight, scratch);
  if (threadIdx.x != 0) return;
  partial[2 * blockIdx.x] = update;
  partial[2 * blockIdx.x + 1] = weight;
}

// One thread does this, as there are few numbers.
__global__ void clip_gradient_kernel(const double* __restrict__ sum_of_squares, const double* __restrict__ terms,
                                     int64_t count, double max_norm, bool halt, double* __restrict__ numbers) {
  const auto number = [&](StepNumber which) -> double& { return numbers[place(which)]; };
  const auto finite = [](double x) { return fabs(x) <= 1.7976931348623157e308; };  // false for a NaN
  const double norm = sqrt(*sum_of_squares);
  bool all_finite = finite(norm);
  for (int64_t i = 0; i < count; ++i) all_finite = all_finite && finite(terms[i]);
  const bool apply = all_finite && number(StepNumber::halted) == 0;
  number(StepNumber::gradient_norm) = norm;
  number(StepNumber::gradient_scale) = max_norm > 0 && max_norm < norm ? max_norm / norm : 1;
  number(StepNumber::apply) = apply ? 1 : 0;
  if (apply) number(StepNumber::updates) += 1;
  if (!all_finite && halt) number(StepNumber::halted) = 1;
}

/// The number of blocks of a grid that walks `groups` of elements with its own stride.
int64_t grid_for(int64_t groups, int64_t most) {
  return std::min(most, ceil_div<int64_t>(groups, threads));
}

}  // namespace

void CudaOps::run(const SumOfSquares& op) {
  const int64_t count = op.x.elements();
  if (count == 0) return;
  double* partial = workspace_of<double>(op, most_scalar_blocks);
  with_access<4>(count, {&op.x}, [&](auto n) {
    constexpr int N = decltype(n)::value;
    const int64_t grid = grid_for(count / N, most_scalar_blocks);
    GPU_LAUNCH((sum_of_squares_kernel<N>), blocks(grid), dim3(threads), 0, stream_, data<float>(op.x), count, partial);
    add_scalar_sums(stream_, partial, grid, {.count = 1, .out = {data<double>(op.sum)}, .factor = {1}});
  });
}

void CudaOps::run(const ClipGradient& op) {
  GPU_LAUNCH(clip_gradient_kernel, dim3(1), dim3(1), 0, stream_, data<double>(op.sum_of_squares),
             data<double>(op.terms), op.terms.elements(), op.max_norm, op.after == AfterNonfinite::halt,
             data<double>(op.numbers));
}

void CudaOps::run(const AdamW& op) {
  const int64_t count = op.weight.elements();
  if (count == 0) return;
  const AdamParameters p{.weight = data<float>(op.weight),
                         .m = data<float>(op.m),
                         .v = data<float>(op.v),
                         .gradient = data<float>(op.gradient),
                         .count = count,
                         .beta1 = op.beta1,
                         .beta2 = op.beta2,
                         .eps = op.eps,
                         .decay = op.decay,
                         .numbers = data<double>(op.numbers)};
  constexpr int64_t most_blocks = 2048;
  const DType act = op.weight_act ? op.weight_act.dtype : DType::f32;
  with_access<4>(count, {&op.weight, &op.m, &op.v, &op.gradient, &op.weight_act}, [&](auto n) {
    constexpr int N = decltype(n)::value;
    dispatch_act(act, [&](auto tag) {
      using T = typename decltype(tag)::type;
      GPU_LAUNCH((adam_kernel<T, N>), blocks(grid_for(count / N, most_blocks)), dim3(threads), 0, stream_, p,
                 data<T>(op.weight_act));
    });
  });
}

void CudaOps::run(const SumOfUpdates& op) {
  const int64_t count = op.weight.elements();
  if (count == 0) return;
  const AdamParameters p{.weight = data<float>(op.weight),
                         .m = data<float>(op.m),
                         .v = data<float>(op.v),
                         .gradient = nullptr,
                         .count = count,
                         .beta1 = op.beta1,
                         .beta2 = op.beta2,
                         .eps = op.eps,
                         .decay = op.decay,
                         .numbers = data<double>(op.numbers)};
  double* partial = workspace_of<double>(op, 2 * most_scalar_blocks);
  with_access<4>(count, {&op.weight, &op.m, &op.v}, [&](auto n) {
    constexpr int N = decltype(n)::value;
    const int64_t grid = grid_for(count / N, most_scalar_blocks);
    GPU_LAUNCH((sum_of_updates_kernel<N>), blocks(grid), dim3(threads), 0, stream_, p, partial);
    add_scalar_sums(
        stream_, partial, grid,
        {.count = 2, .out = {data<double>(op.squared_update), data<double>(op.squared_weight)}, .factor = {1, 1}});
  });
}

}  // namespace strand
