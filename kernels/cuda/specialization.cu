// The terms SP and O from the Gram matrices of tokens, and SP's pairs on the home rank of tokens whose rows have
// travelled.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/partial_sums.h"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/token_rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

/// cos² of a pair in the sample. It is 0 where a norm is below 1e-12.
struct SquaredCosine {
  Sample sample;
  __device__ bool counts(int64_t token) const { return sample.contains(token); }
  __device__ double operator()(double ij, double ii, double jj) const {
    return ii >= smallest_square && jj >= smallest_square ? ij * ij / (ii * jj) : 0;
  }
};

/// The squared length of the projection of y_i on y_j.
struct SquaredProjection {
  __device__ bool counts(int64_t) const { return true; }
  __device__ double operator()(double ij, double, double jj) const { return ij * ij * OrthogonalityPull::weight(jj); }
};

// Warps walk the tokens with the stride of the grid, lanes a token's pairs i ≠ j. One partial sum a block. Reads the
// Gram matrices once.
template <typename Term>
__global__ void __launch_bounds__(threads) pairs_term_kernel(Term term, const float* __restrict__ gram, int64_t tokens,
                                                             int top_k, double* __restrict__ partial) {
  __shared__ double scratch[threads / 32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) / 32;
  double sum = 0;
  for (int64_t t = warp; t < tokens; t += static_cast<int64_t>(gridDim.x) * threads / 32) {
    if (!term.counts(t)) continue;
    const float* of_token = gram + t * top_k * top_k;
    for (int pair = lane; pair < top_k * top_k; pair += 32) {
      const int i = pair / top_k, j = pair % top_k;
      if (i != j) sum += term(of_token[pair], of_token[i * top_k + i], of_token[j * top_k + j]);
    }
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/// Adds factor Σ term to out. `workspace` gives device memory for a number of doubles.
template <typename Term, typename Workspace>
void add_pairs_term(cudaStream_t stream, const Term& term, const Tensor& gram, double factor, const Tensor& out,
                    const Workspace& workspace) {
  const int64_t tokens = gram.dim(0);
  if (tokens == 0) return;
  const int64_t grid = std::min(most_scalar_blocks, ceil_div<int64_t>(tokens, threads / 32));
  double* partial = workspace(grid);
  GPU_LAUNCH((pairs_term_kernel<Term>), blocks(grid), dim3(threads), 0, stream, term, data<float>(gram), tokens,
             static_cast<int>(gram.dim(1)), partial);
  add_scalar_sums(stream, partial, grid, {.count = 1, .out = {data<double>(out)}, .factor = {factor}});
}

// A block owns a token: warps take the products of pairs of its rows.
template <typename T, int N>
__global__ void __launch_bounds__(token_threads)
    slot_gram_kernel(const T* __restrict__ rows, const int32_t* __restrict__ row_of_slot, int64_t top_k, int64_t width,
                     float* __restrict__ gram) {
  const int64_t token = blockIdx.x;
  gram_of_token<N>(
      [&](int64_t k) -> const T* {
        const int64_t row = row_of_slot[token * top_k + k];
        return row < 0 ? nullptr : rows + row * width;
      },
      top_k, width, gram + token * top_k * top_k);
}

/// drow_i = Σ_j factor_ij z_j for tokens whose rows are here. drows may be z.
template <typename T>
struct TokenPairs {
  const T* z;
  T* drows;
  const int32_t* row_of_slot;
  const float* grams;
  int64_t top_k, width;
  double sp_scale;
  int64_t token;

  __device__ bool is_here() const { return row_of_slot[token * top_k] >= 0; }
  __device__ SpecializationPull pull() const { return {sp_scale}; }
  __device__ const float* gram() const { return grams + token * top_k * top_k; }

  template <int N>
  __device__ void read(int64_t k, int64_t column, float (&x)[N]) const {
    load(z + row_of_slot[token * top_k + k] * width + column, x);
  }
  template <int N>
  __device__ float finish(int64_t k, int64_t column, const float (&mixed)[N]) const {
    store(drows + row_of_slot[token * top_k + k] * width + column, mixed);
    return 0;
  }
  __device__ void write_dot(int64_t, float) const {}
};

}  // namespace

void CudaOps::run(const SpecializationTerm& op) {
  add_pairs_term(stream_, SquaredCosine{sample_of(op.sample)}, op.gram, op.sp_scale, op.sp,
                 [&](int64_t count) { return workspace_of<double>(op, count); });
}

void CudaOps::run(const OrthogonalityTerm& op) {
  add_pairs_term(stream_, SquaredProjection{}, op.gram, op.o_scale, op.o,
                 [&](int64_t count) { return workspace_of<double>(op, count); });
}

void CudaOps::run(const SlotGram& op) {
  const int64_t tokens = op.gram.dim(0), width = op.rows.dim(1);
  if (tokens == 0) return;
  dispatch_act(op.rows.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    with_access<8>(width, {&op.rows}, [&](auto n) {
      constexpr int N = decltype(n)::value;
      GPU_LAUNCH((slot_gram_kernel<T, N>), blocks(tokens), dim3(token_threads), 0, stream_, data<T>(op.rows),
                 data<int32_t>(op.row_of_slot), op.gram.dim(1), width, data<float>(op.gram));
    });
  });
}

void CudaOps::run(const SpecializationBackward& op) {
  const int64_t tokens = op.row_of_slot.dim(0), top_k = op.row_of_slot.dim(1), width = op.z.dim(1);
  dispatch_act(op.z.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const TokenPairs<T> rows{.z = data<T>(op.z),
                             .drows = data<T>(op.drows),
                             .row_of_slot = data<int32_t>(op.row_of_slot),
                             .grams = data<float>(op.gram),
                             .top_k = top_k,
                             .width = width,
                             .sp_scale = op.sp_scale,
                             .token = 0};
    mix_rows(stream_, rows, tokens, top_k, width, rows_allow(8, width, {&op.z, &op.drows}), "SpecializationBackward");
  });
}

}  // namespace strand
