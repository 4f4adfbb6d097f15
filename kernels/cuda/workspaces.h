#pragma once
// What the operations of the CUDA backend work in beside their tensors: partial sums of blocks, counts of a sort. It is
// known without a GPU and without CUDA, for plans. The launches take the sizes of their grids from here, and
// CudaOps::workspace_of refuses what is not counted here.
#include <algorithm>
#include <cstdint>

#include "kernels/op_workspaces.h"

namespace strand::gpu {

/// What cuBLAS asks for on sm_90 (its documentation, cublasSetWorkspace). With a workspace of its own, it allocates
/// nothing in a step, and its results repeat.
constexpr size_t blas_workspace_bytes = size_t{32} << 20;

/// The bytes of dynamic shared memory that a block may have beside what its kernel declares.
constexpr int64_t dynamic_shared_bytes = (48 << 10) - 1024;

/// The most blocks that share one sum into scalars.
constexpr int64_t most_scalar_blocks = 512;
/// Blocks that share the rows of a norm's backward: a few for every multiprocessor of a large GPU, and as many partial
/// sums of dweight. Not asked of the GPU, so that all GPUs sum in one order.
constexpr int64_t most_norm_blocks = 512;
/// The blocks that share the rows of the backward pass of splitting heads.
constexpr int64_t most_head_blocks = 1024;
/// Tokens whose gradients are added to the embedding's at a time, so that the workspace does not grow with them.
constexpr int64_t embedding_chunk_tokens = 65536;
/// How many bits of a token id one pass of its sort looks at.
constexpr int embedding_digit_bits = 8;
/// Rows and columns of a tile of outputs (fma_tile.cuh), and of the joint matrix (coupling.cu).
constexpr int64_t fma_tile_outputs = 64, joint_tile = 32;

constexpr int64_t pieces_of(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

/// How a sort by buckets (sorting.cuh) is shared out. Shared memory of a block of its third kernel: one counter for
/// each warp and bucket.
struct SortShape {
  static constexpr int64_t items_of_warp = 256, most_warps = 8, scan_threads = 1024;
  static constexpr int64_t most_buckets = dynamic_shared_bytes / int64_t{sizeof(int32_t)};

  int64_t items, buckets;
  int64_t warps, items_of_block, blocks;

  SortShape(int64_t items_to_sort, int64_t buckets_to_fill)
      : items(items_to_sort),
        buckets(buckets_to_fill),
        warps(std::clamp<int64_t>(most_buckets / buckets, 1, most_warps)),
        items_of_block(warps * items_of_warp),
        blocks(pieces_of(items, items_of_block)) {}
  int64_t workspace() const { return blocks * buckets; }  ///< i32 elements: counts of blocks
};

/// Chunks of the tokens of a group whose routing is counted together: up to 1024 in all, of 256 tokens or more. Where a
/// group is one chunk, its sums go to their place at once.
inline int64_t statistics_chunks(int64_t groups, int64_t group_tokens) {
  constexpr int64_t most = 1024;
  return std::clamp<int64_t>(std::min(most / groups, group_tokens / 256), 1, most);
}

/// Tokens whose part of a router's dW one block sums: enough blocks for the GPU, and enough tokens for a block.
inline int64_t router_part_tokens(int64_t tokens, int64_t experts, int64_t width, int multiprocessors) {
  constexpr int64_t least = 128;
  const int64_t tiles = pieces_of(width, fma_tile_outputs) * pieces_of(experts, fma_tile_outputs);
  return std::max(least, pieces_of(tokens, pieces_of(4 * int64_t{multiprocessors}, tiles)));
}

/// Tokens of a split of the joint matrix's sum: as many splits as fill a large GPU, of 128 tokens or more.
inline int64_t joint_split_tokens(int64_t tokens, int64_t lower_experts, int64_t upper_experts) {
  const int64_t tiles = pieces_of(lower_experts, joint_tile) * pieces_of(upper_experts, joint_tile);
  const int64_t most = std::max<int64_t>(1, std::min(pieces_of(512, tiles), tokens / 128));
  return std::max(joint_tile, pieces_of(pieces_of(tokens, most), joint_tile) * joint_tile);
}

/// Parts into which the positions of each token in a cache of `capacity` are cut: as many as it takes to occupy the GPU
/// with `blocks` blocks for each part, when they are long enough. The host does not know the positions, only how many
/// there can be.
inline int64_t cache_parts(int64_t blocks, int64_t capacity, int multiprocessors) {
  constexpr int64_t least_positions = 128;
  return std::clamp<int64_t>(2 * multiprocessors / blocks, 1, pieces_of(capacity, least_positions));
}
/// How attention over a cache (cache.cu) is shared out.
struct CacheShape {
  /// Query heads of one key/value head that share what a block reads of the cache. In wider rows than widest_shared a
  /// lane has no registers for more than one.
  static constexpr int most_heads = 4;
  static constexpr int64_t widest_shared = 256;

  int64_t tokens, heads, value_dim;
  int64_t width;        ///< of the wider of keys and values
  int64_t head_blocks;  ///< blocks for the query heads of one key/value head
  int64_t parts;        ///< of the positions of a token

  CacheShape(const CacheAttention& op, int multiprocessors);
  int64_t workspace() const { return parts == 1 ? 0 : tokens * heads * parts * (2 + value_dim); }  ///< f32 elements
};

/// How the rows of heads are joined in the backward pass (split_heads.cu).
struct JoinShape {
  int64_t grid, q_weights, k_weights, columns;
  size_t shared_bytes;  ///< of a block
  bool in_shared;       ///< a block's row of gradients lies there, or else in the workspace

  explicit JoinShape(const SplitHeadsBackward& op);
  int64_t weights() const { return q_weights + k_weights; }
  int64_t sums_floats() const { return pieces_of(weights(), 4) * 4; }  ///< of a block
  int64_t workspace() const { return q_weights == 0 ? 0 : grid * (sums_floats() + (in_shared ? 0 : columns)); }
};

class CudaWorkspaces final : public OpWorkspaces {
 public:
  explicit CudaWorkspaces(int multiprocessors) : multiprocessors_(multiprocessors) {}

  using OpWorkspaces::bytes;
  size_t bytes(const GroupedLinear& op) const override;
  size_t bytes(const GroupedLinearBackwardInput& op) const override;
  size_t bytes(const GroupedLinearBackwardWeight& op) const override;
  size_t bytes(const RmsNormBackward& op) const override;
  size_t bytes(const SplitHeadsBackward& op) const override;
  size_t bytes(const LatentNormBackward& op) const override;
  size_t bytes(const CacheAttention& op) const override;
  size_t bytes(const RouterLinearBackward& op) const override;
  size_t bytes(const RoutingStatistics& op) const override;
  size_t bytes(const RouterTerms& op) const override;
  size_t bytes(const CouplingTokenTerm& op) const override;
  size_t bytes(const CouplingJoint& op) const override;
  size_t bytes(const CouplingSelect& op) const override;
  size_t bytes(const SortSlots& op) const override;
  size_t bytes(const SortForExchange& op) const override;
  size_t bytes(const SpecializationTerm& op) const override;
  size_t bytes(const OrthogonalityTerm& op) const override;
  size_t bytes(const CrossEntropy& op) const override;
  size_t bytes(const EmbeddingBackward& op) const override;
  size_t bytes(const SumOfSquares& op) const override;
  size_t bytes(const SumOfUpdates& op) const override;

 private:
  int multiprocessors_;
};

}  // namespace strand::gpu
