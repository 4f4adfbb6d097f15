#pragma once
// The K rows of one token in the expert buffer: their Gram matrix, and linear combinations of them, from which the
// gradients of SP and O are made (docs/mathematics.md, section 3).
//
// A block owns a token. Thread i owns the groups of N columns i, i + threads, … of all K rows, so a row may be
// overwritten as soon as the thread has its columns of all rows in registers, and nothing is shared between tokens.
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/smallest_square.h"

namespace strand::gpu {

constexpr int token_threads = 256;  ///< of a block that owns a token, at most

/// gram [K, K] of a token: ⟨row_i, row_j⟩ for each pair, a warp a pair, symmetric to the bit. row(k) is the address of
/// row k, or nullptr, whose products are 0.
template <int N, typename Row>
__device__ void gram_of_token(const Row& row, int64_t top_k, int64_t width, float* gram) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  int pair = 0;
  for (int64_t i = 0; i < top_k; ++i) {
    for (int64_t j = 0; j <= i; ++j, ++pair) {
      if (pair % warps != warp) continue;
      const auto *a = row(i), *b = row(j);
      float sum = 0;
      if (a != nullptr && b != nullptr) {
        for (int64_t column = lane * N; column < width; column += 32 * N) {
          float x[N], y[N];
          load(a + column, x);
          load(b + column, y);
#pragma unroll
          for (int n = 0; n < N; ++n) sum += x[n] * y[n];
        }
      }
      sum = warp_sum(sum);
      if (lane == 0) gram[i * top_k + j] = gram[j * top_k + i] = sum;
    }
  }
}

/// What row j of a token adds to the gradient of row i, as a factor of row j (partner, i ≠ j) and of row i (self), from
/// three entries of the Gram matrix: ij, ii and jj.
///
/// SP: 4 sp_scale c (ẑ_j − c ẑ_i) / ‖z_i‖, with c = ij / √(ii jj); 0 where a norm is below 1e-12.
struct SpecializationPull {
  double scale;  ///< 0: this token has no gradient

  __device__ double partner(double ij, double ii, double jj) const {
    return ii >= smallest_square && jj >= smallest_square ? 4 * scale * ij / (ii * jj) : 0;
  }
  __device__ double self(double ij, double ii, double jj) const {
    const double factor = partner(ij, ii, jj);
    return factor != 0 ? -factor * ij / ii : 0;
  }
};

/// O: with f(n) = n / (n + ε)², 2 ij (f(ii) + f(jj)) for the partner and 2 f'(ii) ij² for the row itself, where
/// f'(n) = (ε − n) / (n + ε)³ and ii = ⟨y_i, y_i⟩ counts y_i twice.
struct OrthogonalityPull {
  static constexpr double epsilon = 1e-9;  // Eq. 6 of arXiv 2505.22323
  double scale;

  __device__ static double weight(double n) { return n / ((n + epsilon) * (n + epsilon)); }
  __device__ double partner(double ij, double ii, double jj) const {
    return 2 * scale * ij * (weight(ii) + weight(jj));
  }
  __device__ double self(double ij, double ii, double) const {
    const double shifted = ii + epsilon;
    return 2 * scale * ij * ij * (epsilon - ii) / (shifted * shifted * shifted);
  }
};

/// The factor of row j in the gradient of row i: a partner's, or, for j = i, the sum of what all partners add.
template <typename Pull>
__device__ float pull_factor(const Pull& pull, const float* gram, int64_t top_k, int64_t i, int64_t j) {
  const double ii = gram[i * top_k + i];
  if (i != j) return static_cast<float>(pull.partner(gram[i * top_k + j], ii, gram[j * top_k + j]));
  double sum = 0;
  for (int64_t l = 0; l < top_k; ++l)
    if (l != i) sum += pull.self(gram[i * top_k + l], ii, gram[l * top_k + l]);
  return static_cast<float>(sum);
}

// ---- mixing: row i becomes rows.finish(i, …, Σ_j factor_ij row_j) ---------------------------------------------------
//
// A Rows type reads and writes the rows of the token that the block owns:
//   template <int N> __device__ void read(int64_t k, int64_t column, float (&x)[N]) const;
//   template <int N> __device__ float finish(int64_t k, int64_t column, const float (&mixed)[N]) const;
//     reads the columns of row k again if it needs them, and writes them; what it returns is summed over the columns
//   __device__ void write_dot(int64_t k, float dot) const;

/// The most rows of a token that are kept in registers.
constexpr int most_kept_rows = 16;

/// K ≤ most_k ≤ 16. The factors stand in shared memory; every element is read once from memory, and what finish() reads
/// again comes from cache. The loop over the results is not unrolled: sixteen copies of finish() would only be long.
template <int most_k, int N, typename Rows, typename Pull>
__device__ void mix_few_rows(const Rows& rows, const Pull& pull, const float* gram, int top_k, int64_t width) {
  __shared__ float factors[most_k * most_k], dots[token_threads / 32][most_k];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int i = static_cast<int>(threadIdx.x); i < most_k * most_k; i += static_cast<int>(blockDim.x)) {
    const int row = i / most_k, partner = i % most_k;
    factors[i] = row < top_k && partner < top_k ? pull_factor(pull, gram, top_k, row, partner) : 0.0f;
  }
  for (int i = lane; i < most_k; i += 32) dots[warp][i] = 0;
  __syncthreads();

  for (int64_t first = 0; first < width; first += blockDim.x * N) {  // the same rounds for all threads
    const int64_t column = first + static_cast<int64_t>(threadIdx.x) * N;
    const bool valid = column < width;
    float x[most_k][N] = {};
#pragma unroll
    for (int k = 0; k < most_k; ++k)
      if (valid && k < top_k) rows.read(k, column, x[k]);
#pragma unroll 1
    for (int i = 0; i < top_k; ++i) {
      float mixed[N] = {};
#pragma unroll
      for (int j = 0; j < most_k; ++j) {
#pragma unroll
        for (int n = 0; n < N; ++n) mixed[n] += factors[i * most_k + j] * x[j][n];
      }
      const float dot = warp_sum(valid ? rows.finish(i, column, mixed) : 0.0f);
      if (lane == 0) dots[warp][i] += dot;
    }
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= top_k) return;
  float sum = 0;
  for (int w = 0; w < warps; ++w) sum += dots[w][threadIdx.x];
  rows.write_dot(threadIdx.x, sum);
}

/// Any K: `columns` columns at a time of all rows stand in shared memory, [K, columns], and the dots after them, [K]. A
/// warp owns row i of the result, its lanes the columns; the factors of 32 partners are computed by one lane each.
template <typename Rows, typename Pull>
__device__ void mix_many_rows(const Rows& rows, const Pull& pull, const float* gram, int64_t top_k, int64_t width,
                              int columns, float* shared) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  float* dots = shared + top_k * columns;
  for (int64_t i = threadIdx.x; i < top_k; i += blockDim.x) dots[i] = 0;
  for (int64_t first = 0; first < width; first += columns) {
    __syncthreads();
    for (int64_t i = threadIdx.x; i < top_k * columns; i += blockDim.x) {
      float x[1] = {};
      if (first + i % columns < width) rows.read(i / columns, first + i % columns, x);
      shared[i] = x[0];
    }
    __syncthreads();
    for (int64_t i = warp; i < top_k; i += warps) {
      const bool valid = lane < columns && first + lane < width;
      const double ii = gram[i * top_k + i];
      float mixed[1] = {};
      double self = 0;
      for (int64_t j = 0; j < top_k; j += 32) {
        const bool partner = j + lane < top_k && j + lane != i;
        const double ij = partner ? gram[i * top_k + j + lane] : 0;
        const double jj = partner ? gram[(j + lane) * top_k + j + lane] : 0;
        const float factor = partner ? static_cast<float>(pull.partner(ij, ii, jj)) : 0.0f;
        if (partner) self += pull.self(ij, ii, jj);
        for (int64_t l = 0; l < min(int64_t{32}, top_k - j); ++l) {
          const float factor_of_l = __shfl_sync(all_lanes, factor, static_cast<int>(l));
          if (valid) mixed[0] += factor_of_l * shared[(j + l) * columns + lane];
        }
      }
      self = warp_sum(self);
      float product = 0;
      if (valid) {
        mixed[0] += static_cast<float>(self) * shared[i * columns + lane];
        product = rows.finish(i, first + lane, mixed);
      }
      product = warp_sum(product);
      if (lane == 0) dots[i] += product;
    }
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < top_k; i += blockDim.x) rows.write_dot(i, dots[i]);
}

/// One block a token, which Rows is told: its `token`. is_here() says whether the token has rows here, pull() and
/// gram() give the factors.
template <int most_k, int N, typename Rows>
__global__ void __launch_bounds__(token_threads, 1) mix_few_rows_kernel(Rows rows, int top_k, int64_t width) {
  rows.token = blockIdx.x;
  if (!rows.is_here()) return;  // the whole block
  mix_few_rows<most_k, N>(rows, rows.pull(), rows.gram(), top_k, width);
}
template <typename Rows>
__global__ void __launch_bounds__(token_threads, 1)
    mix_many_rows_kernel(Rows rows, int64_t top_k, int64_t width, int columns) {
  GPU_DYN_SHARED(float, shared);
  rows.token = blockIdx.x;
  if (!rows.is_here()) return;  // the whole block
  mix_many_rows(rows, rows.pull(), rows.gram(), top_k, width, columns, shared);
}

/// Launches the kernel that suits K. `aligned` says that rows may be read 8 elements at a time.
template <typename Rows>
void mix_rows(cudaStream_t stream, const Rows& rows, int64_t tokens, int64_t top_k, int64_t width, bool aligned,
              const char* operation) {
  if (tokens == 0) return;
  const auto few = [&](auto most_k, auto n) {
    constexpr int M = decltype(most_k)::value, N = decltype(n)::value;
    GPU_LAUNCH((mix_few_rows_kernel<M, N, Rows>), blocks(tokens),
               dim3(static_cast<unsigned>(threads_for(width, N, token_threads))), 0, stream, rows,
               static_cast<int>(top_k), width);
  };
  const auto few_aligned = [&](auto most_k) {
    // Sixteen rows of eight columns each would not leave registers for anything else.
    if (aligned) return few(most_k, Count < decltype(most_k)::value <= 8 ? 8 : 4 > {});
    few(most_k, Count<1>{});
  };
  if (top_k <= 2) return few_aligned(Count<2>{});
  if (top_k <= 4) return few_aligned(Count<4>{});
  if (top_k <= 8) return few_aligned(Count<8>{});
  if (top_k <= most_kept_rows) return few_aligned(Count<most_kept_rows>{});
  require_at_most(1024, top_k, "experts a token", operation);
  const int columns = top_k <= 256 ? 32 : 8;
  GPU_LAUNCH((mix_many_rows_kernel<Rows>), blocks(tokens), dim3(token_threads),
             static_cast<size_t>(top_k * (columns + 1)) * sizeof(float), stream, rows, top_k, width, columns);
}

}  // namespace strand::gpu
