// The operations of expert parallelism: maps of the rows that travel, gathering rows by index, and the pairs of the
// specialization term on the home rank of a token.
#include <cstring>
#include <numeric>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/expert_rows.h"
#include "kernels/cpu/specialization.h"

namespace strand {
namespace {

/// visit(block, begin, sampled, end, packed) for blocks of rows that begin with those of sampled tokens: rows
/// [begin, sampled) have the packed positions from `packed` on, rows [sampled, end) have none.
template <typename Visit>
void for_sampled_blocks(const int32_t* counts, int64_t blocks, const Visit& visit) {
  int32_t row = 0, packed = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int32_t sampled = row + counts[2 * block], end = sampled + counts[2 * block + 1];
    visit(block, row, sampled, end, packed);
    packed += counts[2 * block];
    row = end;
  }
}

/// The rows of `op.to` are `bytes` long each; `via` may be none.
void gather_rows(const GatherRows& op, const int32_t* via, int64_t bytes) {
  const int32_t* index = op.index.as<int32_t>();
  const std::byte* from = static_cast<const std::byte*>(op.from.data);
  std::byte* to = static_cast<std::byte*>(op.to.data);
  for_blocks(op.to.dim(0), blocks_of(block_sizes::gathered_bytes, bytes), [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = via && index[i] >= 0 ? via[index[i]] : index[i];
      if (row < 0) {
        std::memset(to + i * bytes, 0, static_cast<size_t>(bytes));
      } else {
        std::memcpy(to + i * bytes, from + row * bytes, static_cast<size_t>(bytes));
      }
    }
  });
}

template <typename T>
void slot_gram(const SlotGram& op) {
  const int64_t top_k = op.row_of_slot.dim(1);
  for_blocks(op.row_of_slot.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      const TokenRows<T> rows{op.rows.as<T>(), op.row_of_slot.as<int32_t>() + t * top_k, op.rows.dim(1)};
      float* gram = op.gram.as<float>() + t * top_k * top_k;
      if (rows.row_of_slot[0] < 0) {
        std::fill_n(gram, top_k * top_k, 0.0f);
      } else {
        gram_of_rows(rows, top_k, gram);
      }
    }
  });
}

/// drows_i = Σ_j pull_ij z_j. The rows of drows may be those of z: these lanes of all rows are read before any is
/// written. `lanes_of_row` [K, simd::width] holds them in between.
template <typename T, typename Count>
void pull_rows(const TokenRows<T>& z, const TokenRows<T>& drows, Count top_k, const float* pull, float* lanes_of_row) {
  simd::for_lanes(z.width, [&](int64_t c, auto lanes) {
    for (int64_t j = 0; j < top_k; ++j) simd::store(lanes_of_row + j * simd::width, simd::load(z[j] + c, lanes));
    for (int64_t i = 0; i < top_k; ++i) {
      simd::vfloat sum{};
      for (int64_t j = 0; j < top_k; ++j) sum += pull[i * top_k + j] * simd::load(lanes_of_row + j * simd::width);
      simd::store(drows[i] + c, sum, lanes);
    }
  });
}

struct PullBuffers {
  PullBuffers(Workspace& memory, const SpecializationBackward& op)
      : token(memory, op.row_of_slot.dim(1) * (simd::width + op.row_of_slot.dim(1))) {}
  ThreadBuffers token;  ///< [K, simd::width] lanes of rows, and [K, K] the pull
};

struct SampledBuffers {
  SampledBuffers(Workspace& memory, const SampledSlots& op)
      : packed_of_row(memory.take<int32_t>(op.row_of_slot.elements())) {}
  int32_t* packed_of_row;
};

template <typename T>
void specialization_backward(const SpecializationBackward& op, const PullBuffers& buffers) {
  const int64_t width = op.z.dim(1), top_k = op.row_of_slot.dim(1);
  for_blocks(op.row_of_slot.dim(0), row_block, [&](int64_t begin, int64_t end, int64_t) {
    float* lanes_of_row = buffers.token.mine();
    float* pull = lanes_of_row + top_k * simd::width;
    for (int64_t t = begin; t < end; ++t) {
      const int32_t* row_of_slot = op.row_of_slot.as<int32_t>() + t * top_k;
      if (row_of_slot[0] < 0) continue;
      specialization_pull(op.gram.as<float>() + t * top_k * top_k, top_k, op.sp_scale, pull);
      const TokenRows<T> z{op.z.as<T>(), row_of_slot, width}, drows{op.drows.as<T>(), row_of_slot, width};
      with_top_k(top_k, [&](auto count) { pull_rows(z, drows, count, pull, lanes_of_row); });
    }
  });
}

}  // namespace

// Positions by row first, in one pass over the blocks (a few integers a slot: too little for threads), then by slot.
void CpuOps::run(const SampledSlots& op) {
  const int64_t slots = op.row_of_slot.elements();
  int32_t* const packed_of_row = buffers<SampledBuffers>(op).packed_of_row;
  for_sampled_blocks(op.counts.as<int32_t>(), op.counts.dim(0),
                     [&](int64_t, int32_t begin, int32_t sampled, int32_t end, int32_t packed) {
                       std::iota(packed_of_row + begin, packed_of_row + sampled, packed);
                       std::fill(packed_of_row + sampled, packed_of_row + end, -1);
                     });
  const int32_t* row_of_slot = op.row_of_slot.as<int32_t>();
  int32_t* packed_of_slot = op.packed_of_slot.as<int32_t>();
  for (int64_t slot = 0; slot < slots; ++slot) packed_of_slot[slot] = packed_of_row[row_of_slot[slot]];
}

void CpuOps::run(const ArrivalMap& op) {
  const int64_t local_experts = op.counts.dim(1);
  int32_t* experts = op.experts.as<int32_t>();
  int32_t* packed_of_arrival = op.packed_of_arrival.as<int32_t>();
  int32_t* arrival_of_packed = op.arrival_of_packed.as<int32_t>();
  for_sampled_blocks(op.counts.as<int32_t>(), op.counts.dim(0) * local_experts,
                     [&](int64_t block, int32_t begin, int32_t sampled, int32_t end, int32_t packed) {
                       std::fill(experts + begin, experts + end, static_cast<int32_t>(block % local_experts));
                       std::iota(packed_of_arrival + begin, packed_of_arrival + sampled, packed);
                       std::fill(packed_of_arrival + sampled, packed_of_arrival + end, -1);
                       std::iota(arrival_of_packed + packed, arrival_of_packed + packed + (sampled - begin), begin);
                     });
}

void CpuOps::run(const GatherRows& op) {
  gather_rows(op, op.via ? op.via.as<int32_t>() : nullptr,
              op.from.dim(1) * static_cast<int64_t>(size_of(op.from.dtype)));
}

void CpuOps::run(const SlotGram& op) {
  dispatch_act(op.rows.dtype, [&](auto tag) { slot_gram<typename decltype(tag)::type>(op); });
}

void CpuOps::run(const SpecializationBackward& op) {
  const auto memory = buffers<PullBuffers>(op);
  dispatch_act(op.z.dtype, [&](auto tag) { specialization_backward<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const SampledSlots& op) const {
  return workspace_bytes<SampledBuffers>(op);
}
size_t CpuWorkspaces::bytes(const SpecializationBackward& op) const {
  return workspace_bytes<PullBuffers>(op);
}

}  // namespace strand
