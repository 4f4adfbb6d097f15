// From slots to rows sorted by expert.
#include <omp.h>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/expert_rows.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {
namespace {

// Below this many slots a range, starting a thread costs more than its share of the work.
constexpr int64_t slots_of_range = 8192;

/// next[range, e] counts of each range become the row where the range's first slot of expert e goes.
void scan(int32_t* next, int64_t ranges, int64_t experts, int64_t alignment, int32_t* offsets, int32_t* ends) {
  int64_t row = 0;
  for (int64_t e = 0; e < experts; ++e) {
    offsets[e] = static_cast<int32_t>(row);
    for (int64_t range = 0; range < ranges; ++range) {
      const int32_t count = next[range * experts + e];
      next[range * experts + e] = static_cast<int32_t>(row);
      row += count;
    }
    ends[e] = static_cast<int32_t>(row);
    row = blocks_of(row, alignment) * alignment;
  }
  offsets[experts] = static_cast<int32_t>(row);
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
  const int64_t slots = op.selected.elements(), experts = op.map.offsets.elements() - 1;
  const int64_t ranges = std::clamp<int64_t>(slots / slots_of_range, 1, std::max(1, omp_get_max_threads()));
  const int64_t range_size = blocks_of(slots, ranges);
  const int32_t* selected = op.selected.as<int32_t>();
  int32_t* row_of_slot = op.map.row_of_slot.as<int32_t>();
  int32_t* slot_of_row = op.map.slot_of_row.as<int32_t>();
  int32_t* offsets = op.map.offsets.as<int32_t>();
  static thread_local Scratch next_scratch, end_scratch;
  int32_t* next = next_scratch.get<int32_t>(ranges * experts);
  int32_t* ends = end_scratch.get<int32_t>(experts);

  std::fill_n(next, ranges * experts, 0);
  for_blocks(slots, range_size, [&](int64_t begin, int64_t end, int64_t range) {
    for (int64_t slot = begin; slot < end; ++slot) ++next[range * experts + selected[slot]];
  });
  scan(next, ranges, experts, op.alignment, offsets, ends);
  for_blocks(slots, range_size, [&](int64_t begin, int64_t end, int64_t range) {
    for (int64_t slot = begin; slot < end; ++slot) {
      const int32_t row = next[range * experts + selected[slot]]++;
      row_of_slot[slot] = row;
      slot_of_row[row] = static_cast<int32_t>(slot);
    }
  });
  for (int64_t e = 0; e < experts; ++e) std::fill(slot_of_row + ends[e], slot_of_row + offsets[e + 1], -1);
}

void CpuOps::run(const DispatchRows& op) {
  dispatch_act(op.x.dtype, [&](auto tag) { dispatch_tokens<typename decltype(tag)::type>(op); });
}

}  // namespace strand
