// Expert parallelism beside the sending: maps of the rows that travel, gathering, and SP on a token's home rank.
#include <vector>

#include "kernels/host_numbers.h"
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/specialization.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

void ReferenceOps::run(const SortForExchange& op) {
  const auto selected = id_matrix(op.selected), row_of_slot = id_matrix(op.map.row_of_slot);
  const auto counts = id_matrix(op.counts);
  const auto slot_of_row = ids(op.map.slot_of_row), offsets = ids(op.map.offsets);
  const int64_t E = counts.dim(0), K = selected.dim(1);
  const HostSample sample(op.sample);
  int32_t row = 0;
  for (int64_t e = 0; e < E; ++e) {
    offsets(e) = row;
    for (const bool sampled : {true, false}) {
      const int32_t first = row;
      for (int64_t t = 0; t < selected.dim(0); ++t) {
        for (int64_t k = 0; k < K; ++k) {
          if (selected(t, k) != e || sample.contains(t) != sampled) continue;
          slot_of_row(row) = static_cast<int32_t>(t * K + k);
          row_of_slot(t, k) = row++;
        }
      }
      counts(e, sampled ? 0 : 1) = row - first;
    }
  }
  offsets(E) = row;
}

void ReferenceOps::run(const SampledSlots& op) {
  const auto counts = id_matrix(op.counts), row = id_matrix(op.row_of_slot),
             packed_of_slot = id_matrix(op.packed_of_slot);
  std::vector<int32_t> packed_of_row;
  int32_t packed = 0;
  for (int64_t e = 0; e < counts.dim(0); ++e) {
    for (int32_t i = 0; i < counts(e, 0); ++i) packed_of_row.push_back(packed++);
    for (int32_t i = 0; i < counts(e, 1); ++i) packed_of_row.push_back(-1);
  }
  for (int64_t t = 0; t < row.dim(0); ++t)
    for (int64_t k = 0; k < row.dim(1); ++k) packed_of_slot(t, k) = packed_of_row.at(static_cast<size_t>(row(t, k)));
}

void ReferenceOps::run(const ArrivalMap& op) {
  const View<int32_t, 3> counts(op.counts);
  const auto experts = id_matrix(op.experts);
  const auto packed_of_arrival = ids(op.packed_of_arrival), arrival_of_packed = ids(op.arrival_of_packed);
  int32_t arrival = 0, packed = 0;
  for (int64_t p = 0; p < counts.dim(0); ++p) {
    for (int64_t e = 0; e < counts.dim(1); ++e) {
      for (const int64_t part : {0, 1}) {
        for (int32_t i = 0; i < counts(p, e, part); ++i) {
          experts(arrival, 0) = static_cast<int32_t>(e);
          if (part == 0) arrival_of_packed(packed) = arrival;
          packed_of_arrival(arrival++) = part == 0 ? packed++ : -1;
        }
      }
    }
  }
}

void ReferenceOps::run(const GatherRows& op) {
  const auto from = matrix(op.from), to = matrix(op.to);
  const auto index = ids(op.index.view({op.index.elements()}));
  const auto via = ids(op.via ? op.via.view({op.via.elements()}) : Tensor{});
  for (int64_t i = 0; i < to.dim(0); ++i) {
    const int32_t row = via && index(i) >= 0 ? via(index(i)) : index(i);
    for (int64_t w = 0; w < to.dim(1); ++w) to(i, w) = row < 0 ? 0 : from(row, w);
  }
}

// gram_tij = ⟨rows_ti, rows_tj⟩
void ReferenceOps::run(const SlotGram& op) {
  const auto rows = matrix(op.rows);
  const auto row = id_matrix(op.row_of_slot);
  const auto gram = cube(op.gram);
  for (int64_t t = 0; t < gram.dim(0); ++t) {
    for (int64_t i = 0; i < gram.dim(1); ++i) {
      for (int64_t j = 0; j < gram.dim(2); ++j) {
        gram(t, i, j) = 0;
        if (row(t, i) < 0 || row(t, j) < 0) continue;
        for (int64_t f = 0; f < rows.dim(1); ++f) gram(t, i, j) += rows(row(t, i), f) * rows(row(t, j), f);
      }
    }
  }
}

// ∂z_i = 4 sp_scale Σ_{j≠i} c (ẑ_j − c ẑ_i) / ‖z_i‖
void ReferenceOps::run(const SpecializationBackward& op) {
  const auto z = matrix(op.z), drows = matrix(op.drows);
  const auto row = id_matrix(op.row_of_slot);
  const auto gram = cube(op.gram);
  const auto F = static_cast<size_t>(z.dim(1)), K = static_cast<size_t>(row.dim(1));
  std::vector<std::vector<double>> rows(K, std::vector<double>(F));
  for (int64_t t = 0; t < row.dim(0); ++t) {
    if (row(t, 0) < 0) continue;
    for (size_t k = 0; k < K; ++k)
      for (size_t f = 0; f < F; ++f) rows[k][f] = z(row(t, k), f);  // read before: drows may be z
    for (size_t k = 0; k < K; ++k)
      for (size_t f = 0; f < F; ++f) drows(row(t, k), f) = 4 * op.sp_scale * sp_gradient(gram, rows, t, k, f);
  }
}

}  // namespace strand
