#pragma once
// What expert parallelism does with rows beside sending them. The experts of a layer are spread over P ranks, rank p
// holding E_l = E/P experts from p·E_l on; every rank is both of these:
//
//   *home* of its tokens: the slots sorted by expert are the rows in the order in which they are sent, as ranks hold
//   consecutive experts;
//   *expert rank*: rows arrive (A of them) by source rank, then by local expert. Each arrival is a token with one
//   choice, T = A and K = 1, for SortSlots, DispatchRows, Swiglu and SwigluBackward.
//
// SP pairs the rows of one token, which only its home has together: z rows travel home, are paired there, and their
// gradients travel back. Where SP is estimated on a sample of the tokens only their rows travel (S of them), so inside
// each block (source, expert) they come first. Packed together, in row order at home and in the order of arrival on the
// expert rank, they are the *packed* rows. Any of A, S, T, R and N may be 0: a rank whose experts nobody chose still
// takes part.
#include "core/tensor.h"
#include "kernels/ops/experts.h"

namespace strand {

/// Home: stable counting sort of the slots by expert; within an expert the rows of sampled tokens come first, each part
/// in slot order. counts_e = (rows of sampled tokens, rows of others).
struct SortForExchange {
  Tensor selected;  ///< [T, K] i32
  TokenSample sample;
  RowMap map;     ///< written; no padding: slot_of_row is [T·K]
  Tensor counts;  ///< [E, 2] i32, written
  void check() const;
};

/// Home: packed_of_slot = position of the slot's row among the rows of sampled tokens, −1 if its token is not in the
/// sample. `counts` and `row_of_slot` are those of SortForExchange.
struct SampledSlots {
  Tensor counts;          ///< [E, 2] i32
  Tensor row_of_slot;     ///< [T, K] i32
  Tensor packed_of_slot;  ///< [T, K] i32, written
  void check() const;
};

/// Expert rank: what is known of each arrival, from the counts of the blocks (source p, local expert e) in their order:
/// counts[p, e, 0] arrivals of sampled tokens, then counts[p, e, 1] others.
/// Whoever sized the tensors answers for Σ counts = A and Σ counts[.., 0] = S: counts are data, which a check on the
/// host cannot see, and others write out of bounds.
struct ArrivalMap {
  Tensor counts;             ///< [P, E_l, 2] i32
  Tensor experts;            ///< [A, 1] i32, written: the local expert, as SortSlots wants it
  Tensor packed_of_arrival;  ///< [A] i32, written: position among the arrivals of sampled tokens, or −1
  Tensor arrival_of_packed;  ///< [S] i32, written: its inverse
  void check() const;
};

/// to_i = from[via[index_i]], or from[index_i] without via; zeros where an index, of either, is −1.
struct GatherRows {
  Tensor from;   ///< [R, W] act or acc
  Tensor index;  ///< i32, any shape of N elements
  Tensor via;    ///< i32, any shape, or none
  Tensor to;     ///< [N, W], type of from; other memory than from
  void check() const;
};

/// Home: gram_tij = ⟨rows_ti, rows_tj⟩, symmetric to the bit, of tokens whose K rows are here; zeros for the others. (A
/// token has all of its rows here or none.) SpecializationTerm reads it.
struct SlotGram {
  Tensor rows;         ///< [S, F] act
  Tensor row_of_slot;  ///< [T, K] i32, −1: not here
  Tensor gram;         ///< [T, K, K] acc
  void check() const;
};

/// Home: the part of SwigluBackward's dz that belongs to SP, for the rows that are here:
///   drow_i = Σ_{j≠i} (4 sp_scale) c (ẑ_j − c ẑ_i) / ‖z_i‖       c = ⟨ẑ_i, ẑ_j⟩; 0 if a norm is below 1e-12
/// Each row belongs to one slot at most; rows of no slot are not written.
struct SpecializationBackward {
  Tensor z;             ///< [S, F] act
  Tensor row_of_slot;   ///< [T, K] i32, −1: not here
  Tensor gram;          ///< [T, K, K] acc, of z
  double sp_scale = 0;  ///< of the gradient
  Tensor drows;         ///< [S, F] act; may be the memory of z
  void check() const;
};

}  // namespace strand
