// From slots to rows sorted by expert.
#include <omp.h>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/expert_rows.h"
#include "kernels/cpu/token_blocks.h"
#include "kernels/host_numbers.h"

namespace strand {
namespace {

constexpr int64_t slots_of_range = block_sizes::sorted_slots;

/// next[range, b] counts of each range become the row where the range's first slot of bucket b goes.
void scan(int32_t* next, int64_t ranges, int64_t buckets, int64_t alignment, int32_t* offsets, int32_t* ends) {
  int64_t row = 0;
  for (int64_t b = 0; b < buckets; ++b) {
    offsets[b] = static_cast<int32_t>(row);
    for (int64_t range = 0; range < ranges; ++range) {
      const int32_t count = next[range * buckets + b];
      next[range * buckets + b] = static_cast<int32_t>(row);
      row += count;
    }
    ends[b] = static_cast<int32_t>(row);
    row = blocks_of(row, alignment) * alignment;
  }
  offsets[buckets] = static_cast<int32_t>(row);
}

/// How the slots are shared among the threads that sort them.
int64_t ranges_of(int64_t slots) {
  return std::clamp<int64_t>(slots / slots_of_range, 1, std::max(1, omp_get_max_threads()));
}

struct SortBuffers {
  SortBuffers(Workspace& memory, const SortSlots& op)
      : SortBuffers(memory, op.selected.elements(), op.map.offsets.elements() - 1) {}
  SortBuffers(Workspace& memory, int64_t slots, int64_t buckets)
      : next(memory.take<int32_t>(ranges_of(slots) * buckets)), ends(memory.take<int32_t>(buckets)) {}
  int32_t* next;  ///< [ranges, buckets] the row of the next slot
  int32_t* ends;  ///< [buckets] one beyond the last row with a slot
};

struct ExchangeBuffers {
  ExchangeBuffers(Workspace& memory, const SortForExchange& op)
      : sort(memory, op.selected.elements(), 2 * op.counts.dim(0)),
        starts(memory.take<int32_t>(2 * op.counts.dim(0) + 1)) {}
  SortBuffers sort;
  int32_t* starts;  ///< [2 E + 1] of the buckets
};

/// The map of the slots sorted by bucket. bucket_of_slot may be the memory of row_of_slot.
void sort_by_bucket(const int32_t* bucket_of_slot, int64_t slots, int64_t buckets, int64_t alignment,
                    int32_t* row_of_slot, int32_t* slot_of_row, int32_t* offsets, const SortBuffers& buffers) {
  const int64_t ranges = ranges_of(slots);
  const int64_t range_size = std::max<int64_t>(1, blocks_of(slots, ranges));
  int32_t *const next = buffers.next, *const ends = buffers.ends;

  std::fill_n(next, ranges * buckets, 0);
  for_blocks(slots, range_size, [&](int64_t begin, int64_t end, int64_t range) {
    for (int64_t slot = begin; slot < end; ++slot) ++next[range * buckets + bucket_of_slot[slot]];
  });
  scan(next, ranges, buckets, alignment, offsets, ends);
  for_blocks(slots, range_size, [&](int64_t begin, int64_t end, int64_t range) {
    for (int64_t slot = begin; slot < end; ++slot) {
      const int32_t row = next[range * buckets + bucket_of_slot[slot]]++;
      row_of_slot[slot] = row;
      slot_of_row[row] = static_cast<int32_t>(slot);
    }
  });
  for (int64_t b = 0; b < buckets; ++b) std::fill(slot_of_row + ends[b], slot_of_row + offsets[b + 1], -1);
}

template <typename T>
void dispatch_tokens(const DispatchRows& op) {
  const int64_t top_k = op.map.row_of_slot.dim(1), width = op.x.dim(1);
  const int32_t* row_of_slot = op.map.row_of_slot.as<int32_t>();
  const T* x = op.x.as<T>();
  T* rows = op.rows.as<T>();
  for_blocks(op.x.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t k = 0; k < top_k; ++k) {
        std::copy_n(x + t * width, width, rows + row_of_slot[t * top_k + k] * width);
      }
    }
  });
  zero_padding_rows(op.map, rows, width);
}

}  // namespace

void CpuOps::run(const SortSlots& op) {
  sort_by_bucket(op.selected.as<int32_t>(), op.selected.elements(), op.map.offsets.elements() - 1, op.alignment,
                 op.map.row_of_slot.as<int32_t>(), op.map.slot_of_row.as<int32_t>(), op.map.offsets.as<int32_t>(),
                 buffers<SortBuffers>(op));
}

// Two buckets an expert: the slots of sampled tokens, then the others.
void CpuOps::run(const SortForExchange& op) {
  const int64_t experts = op.counts.dim(0), top_k = op.selected.dim(1);
  const HostSample sample(op.sample);
  const int32_t* selected = op.selected.as<int32_t>();
  int32_t* row_of_slot = op.map.row_of_slot.as<int32_t>();
  for_blocks(op.selected.dim(0), slots_of_range / top_k + 1, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t part = sample.contains(t) ? 0 : 1;
      for (int64_t slot = t * top_k; slot < (t + 1) * top_k; ++slot) row_of_slot[slot] = 2 * selected[slot] + part;
    }
  });
  const auto memory = buffers<ExchangeBuffers>(op);
  const int32_t* const starts = memory.starts;
  sort_by_bucket(row_of_slot, op.selected.elements(), 2 * experts, 1, row_of_slot, op.map.slot_of_row.as<int32_t>(),
                 memory.starts, memory.sort);
  int32_t* offsets = op.map.offsets.as<int32_t>();
  int32_t* counts = op.counts.as<int32_t>();
  for (int64_t e = 0; e <= experts; ++e) offsets[e] = starts[2 * e];
  for (int64_t b = 0; b < 2 * experts; ++b) counts[b] = starts[b + 1] - starts[b];
}

void CpuOps::run(const DispatchRows& op) {
  dispatch_act(op.x.dtype, [&](auto tag) { dispatch_tokens<typename decltype(tag)::type>(op); });
}

size_t CpuWorkspaces::bytes(const SortSlots& op) const {
  return workspace_bytes<SortBuffers>(op);
}
size_t CpuWorkspaces::bytes(const SortForExchange& op) const {
  return workspace_bytes<ExchangeBuffers>(op);
}

}  // namespace strand
