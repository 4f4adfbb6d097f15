#include "kernels/cuda/workspaces.h"

namespace strand::gpu {

namespace {
template <typename T>
size_t bytes_of(int64_t count) {
  return static_cast<size_t>(count) * sizeof(T);
}

/// cuBLAS wants the addresses of the three matrices of every expert's product on the device.
size_t pointer_tables(int64_t experts) {
  return bytes_of<void*>(3 * experts);
}

constexpr size_t scalar_sums = most_scalar_blocks * sizeof(double);
}  // namespace

JoinShape::JoinShape(const SplitHeadsBackward& op)
    : grid(std::min(op.layout.sequences * op.layout.tokens, most_head_blocks)),
      q_weights(op.norm == QkNorm::none ? 0 : op.q_weight.elements()),
      k_weights(op.norm == QkNorm::none ? 0 : op.k_weight.elements()),
      columns((op.layout.heads + op.layout.kv_heads) * op.layout.head_dim),
      shared_bytes(bytes_of<float>(pieces_of(op.layout.heads + op.layout.kv_heads, 4) * 4)),
      in_shared(shared_bytes + bytes_of<float>(columns) <= dynamic_shared_bytes) {
  if (op.norm != QkNorm::none && in_shared) shared_bytes += bytes_of<float>(columns);
}

CacheShape::CacheShape(const CacheAttention& op, int multiprocessors)
    : tokens(op.layout.sequences * op.layout.tokens),
      heads(op.layout.heads),
      value_dim(op.layout.value_width()),
      width(std::max(op.layout.head_dim, value_dim)),
      head_blocks(pieces_of(heads / op.layout.kv_heads, width > widest_shared ? 1 : most_heads)),
      parts(cache_parts(tokens * op.layout.kv_heads * head_blocks, op.keys.dim(2), multiprocessors)) {}

size_t CudaWorkspaces::bytes(const GroupedLinear& op) const {
  return pointer_tables(op.weight.dim(0));
}
size_t CudaWorkspaces::bytes(const GroupedLinearBackwardInput& op) const {
  return pointer_tables(op.weight.dim(0));
}
size_t CudaWorkspaces::bytes(const GroupedLinearBackwardWeight& op) const {
  return pointer_tables(op.dweight.dim(0));
}
// A block has at least one row.
size_t CudaWorkspaces::bytes(const RmsNormBackward& op) const {
  return bytes_of<float>(std::min(most_norm_blocks, op.dy.dim(0)) * op.dy.dim(1));
}
size_t CudaWorkspaces::bytes(const SplitHeadsBackward& op) const {
  return bytes_of<float>(JoinShape(op).workspace());
}
size_t CudaWorkspaces::bytes(const LatentNormBackward& op) const {
  return bytes_of<float>(std::min(most_norm_blocks, op.dy.dim(0)) * op.dy.dim(1));
}
size_t CudaWorkspaces::bytes(const CacheAttention& op) const {
  return bytes_of<float>(CacheShape(op, multiprocessors_).workspace());
}
size_t CudaWorkspaces::bytes(const RouterLinearBackward& op) const {
  const int64_t tokens = op.x.dim(0), experts = op.weight.dim(0), width = op.x.dim(1);
  if (tokens == 0) return 0;
  const int64_t parts = pieces_of(tokens, router_part_tokens(tokens, experts, width, multiprocessors_));
  return bytes_of<float>(parts * experts * width);
}
size_t CudaWorkspaces::bytes(const RoutingStatistics& op) const {
  const int64_t groups = op.statistics.dim(1), chunks = statistics_chunks(groups, op.probs.dim(0) / groups);
  return chunks == 1 ? 0 : bytes_of<float>(2 * groups * chunks * op.probs.dim(1));
}
size_t CudaWorkspaces::bytes(const RouterTerms&) const {
  constexpr size_t terms = 4;
  return terms * scalar_sums;
}
size_t CudaWorkspaces::bytes(const CouplingTokenTerm&) const {
  return scalar_sums;
}
size_t CudaWorkspaces::bytes(const CouplingJoint& op) const {
  const int64_t tokens = op.lower_probs.dim(0);
  const int64_t split = joint_split_tokens(tokens, op.lower_probs.dim(1), op.upper_probs.dim(1));
  return bytes_of<float>(std::max<int64_t>(1, pieces_of(tokens, split)) * op.joint.elements());
}
// A block has one row at least.
size_t CudaWorkspaces::bytes(const CouplingSelect& op) const {
  return bytes_of<double>(op.joint.dim(0));
}
size_t CudaWorkspaces::bytes(const SortSlots& op) const {
  return bytes_of<int32_t>(SortShape(op.selected.elements(), op.map.offsets.dim(0) - 1).workspace());
}
size_t CudaWorkspaces::bytes(const SortForExchange& op) const {
  return bytes_of<int32_t>(SortShape(op.selected.elements(), op.counts.elements()).workspace());
}
size_t CudaWorkspaces::bytes(const SpecializationTerm&) const {
  return scalar_sums;
}
size_t CudaWorkspaces::bytes(const OrthogonalityTerm&) const {
  return scalar_sums;
}
size_t CudaWorkspaces::bytes(const CrossEntropy&) const {
  return scalar_sums;
}
size_t CudaWorkspaces::bytes(const EmbeddingBackward& op) const {
  const int64_t chunk = std::min(op.dx.dim(0), embedding_chunk_tokens);
  return bytes_of<int32_t>(4 * chunk + SortShape(chunk, 1 << embedding_digit_bits).workspace());
}
size_t CudaWorkspaces::bytes(const SumOfSquares&) const {
  return scalar_sums;
}
size_t CudaWorkspaces::bytes(const SumOfUpdates&) const {
  return 2 * scalar_sums;
}

}  // namespace strand::gpu
