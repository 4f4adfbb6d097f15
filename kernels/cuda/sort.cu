// The counting sorts of routing: slots by expert, for the expert rows of this GPU (SortSlots) or for sending them to
// others (SortForExchange).
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/sorting.cuh"

namespace strand {

using namespace gpu;

namespace {

struct ByExpert {
  const int32_t* selected;
  int32_t *row_of_slot, *slot_of_row, *offsets;
  int64_t experts;
  int32_t alignment;

  __device__ int bucket(int64_t slot) const { return selected[slot]; }
  __device__ void place(int64_t slot, int32_t row) const {
    row_of_slot[slot] = row;
    slot_of_row[row] = static_cast<int32_t>(slot);
  }
  __device__ int32_t reserve(int32_t count) const { return (count + alignment - 1) / alignment * alignment; }
  __device__ void begin(int64_t expert, int32_t first, int32_t count) const {
    offsets[expert] = first;
    for (int32_t row = count; row < reserve(count); ++row) slot_of_row[first + row] = -1;
  }
  __device__ void end(int32_t rows) const { offsets[experts] = rows; }
};

/// Bucket 2e holds the slots of sampled tokens at expert e, 2e + 1 the others.
struct ByExpertAndSample {
  const int32_t* selected;
  int32_t *row_of_slot, *slot_of_row, *offsets, *counts;
  int64_t experts, top_k;
  Sample sample;

  __device__ int bucket(int64_t slot) const { return 2 * selected[slot] + (sample.contains(slot / top_k) ? 0 : 1); }
  __device__ void place(int64_t slot, int32_t row) const {
    row_of_slot[slot] = row;
    slot_of_row[row] = static_cast<int32_t>(slot);
  }
  __device__ int32_t reserve(int32_t count) const { return count; }
  __device__ void begin(int64_t bucket, int32_t first, int32_t count) const {
    counts[bucket] = count;
    if (bucket % 2 == 0) offsets[bucket / 2] = first;
  }
  __device__ void end(int32_t rows) const { offsets[experts] = rows; }
};

}  // namespace

void CudaOps::run(const SortSlots& op) {
  const int64_t experts = op.map.offsets.dim(0) - 1;
  require_at_most(SortShape::most_buckets, experts, "experts", "SortSlots");
  const SortShape shape(op.selected.elements(), experts);
  const ByExpert keys{.selected = data<int32_t>(op.selected),
                      .row_of_slot = data<int32_t>(op.map.row_of_slot),
                      .slot_of_row = data<int32_t>(op.map.slot_of_row),
                      .offsets = data<int32_t>(op.map.offsets),
                      .experts = experts,
                      .alignment = static_cast<int32_t>(op.alignment)};
  sort_items(stream_, shape, keys, workspace_of<int32_t>(op, shape.workspace()));
}

void CudaOps::run(const SortForExchange& op) {
  const int64_t buckets = op.counts.elements();
  require_at_most(SortShape::most_buckets / 2, buckets / 2, "experts", "SortForExchange");
  const SortShape shape(op.selected.elements(), buckets);
  const ByExpertAndSample keys{.selected = data<int32_t>(op.selected),
                               .row_of_slot = data<int32_t>(op.map.row_of_slot),
                               .slot_of_row = data<int32_t>(op.map.slot_of_row),
                               .offsets = data<int32_t>(op.map.offsets),
                               .counts = data<int32_t>(op.counts),
                               .experts = buckets / 2,
                               .top_k = op.selected.dim(1),
                               .sample = sample_of(op.sample)};
  sort_items(stream_, shape, keys, workspace_of<int32_t>(op, shape.workspace()));
}

}  // namespace strand
