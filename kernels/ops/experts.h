#pragma once
// From tokens to expert rows and back: stable counting sort, dispatch, SwiGLU with the specialization loss in it,
// combine. The factors `sp_scale` and `o_scale` are ready to multiply, as in ops/router.h: sampling is in them.
#include "core/tensor.h"
#include "kernels/ops/linear.h"
#include "kernels/ops/step_numbers.h"

namespace strand {

/// Index maps between slots (token t, choice k) and rows sorted by expert, named by direction.
struct RowMap {
  Tensor row_of_slot;  ///< [T, K] i32
  Tensor slot_of_row;  ///< [R] i32: t·K + k, or −1 for a padding row; undefined from offsets[E] on
  Tensor offsets;      ///< [E + 1] i32, multiples of the row alignment
  explicit operator bool() const { return static_cast<bool>(row_of_slot); }
};

/// Stable counting sort of the slots by expert: histogram, scan, scatter. Within an expert, rows keep slot order.
struct SortSlots {
  Tensor selected;        ///< [T, K] i32
  int64_t alignment = 1;  ///< blocks start at multiples of it; R must hold T·K + E (alignment − 1) rows
  RowMap map;             ///< written
  void check() const;
};

/// rows[r] = x[t] for the token of each row; padding rows are zeroed. (Also the backward of CombineRows without gates.)
struct DispatchRows {
  Tensor x;  ///< [T, D] act
  RowMap map;
  Tensor rows;  ///< [R, D] act
  void check() const;
};

/// z = silu(gate) ⊙ up for each row of gate_up = [gate | up].
/// With a map, rows are visited by token, and the Gram matrix of a token's K vectors z is taken while they are in
/// cache: gram_tij = ⟨z_ti, z_tj⟩, all that SP needs. Padding rows of z are zeroed. Without a map (dense and shared
/// experts), all rows are computed in order and there is no gram.
struct Swiglu {
  Tensor gate_up;  ///< [R, 2F] act
  RowMap map;      ///< or none
  Tensor z;        ///< [R, F] act
  Tensor gram;     ///< [T, K, K] acc, or none
  void check() const;
};

/// sp += sp_scale Σ_{t in sample} Σ_{i≠j} gram_ij² / (gram_ii gram_jj); a norm below 1e-12 counts as cos = 0.
/// (Eq. 4 of arXiv 2602.14159: ordered pairs, each unordered pair counts twice.)
struct SpecializationTerm {
  Tensor gram;  ///< [T, K, K] acc
  TokenSample sample;
  double sp_scale = 0;
  Tensor sp;  ///< [1] f64, accumulated
  void check() const;
};

/// One pass over the rows for everything between the two expert GEMMs of the backward. z is recomputed from gate_up.
///   dz = gate · dz' + Σ_{j≠i} (4 sp_scale) c (ẑ_j − c ẑ_i) / ‖z_i‖       c = ⟨ẑ_i, ẑ_j⟩, tokens of the sample only
///   dz = gate · dz' + dz_pairs[pair_of_slot]     where the partners of a row live elsewhere and the sum was formed
///   there dgate = ⟨dz', z⟩;  dgate_up = SwiGLU backward of dz;  weighted_z = gate · z (the input of dW_down = dyᵀ
///   weighted_z)
/// `dz` holds dz' = dout W_down, before the routing weight. Without gates, gate = 1 and no dgates.
/// dgate_up may be the memory of gate_up, and weighted_z that of dz. Padding rows of both outputs are zeroed.
struct SwigluBackward {
  Tensor gate_up;       ///< [R, 2F] act
  Tensor dz;            ///< [R, F] act
  RowMap map;           ///< or none
  Tensor gates;         ///< [T, K] acc, or none
  Tensor gram;          ///< [T, K, K] acc; needed when sp_scale is not 0
  double sp_scale = 0;  ///< of the gradient
  TokenSample sample;
  Tensor dz_pairs;      ///< [S, F] act, or none; not together with sp_scale (SpecializationBackward writes it)
  Tensor pair_of_slot;  ///< [T, K] i32: row of dz_pairs, or −1 for nothing; given exactly when dz_pairs is
  Tensor weighted_z;    ///< [R, F] act
  Tensor dgate_up;      ///< [R, 2F] act
  Tensor dgates;        ///< [T, K] acc, overwritten; none exactly when gates is none
  void check() const;
};

/// out[t] (+)= Σ_k gates[t, k] · rows[row_of_slot[t, k]], in the order of k. Without gates every weight is 1.
/// gram_tij = ⟨y_ti, y_tj⟩ of the rows as they stand (before the gate), for O.
struct CombineRows {
  Tensor rows;  ///< [R, D] act
  RowMap map;
  Tensor gates;  ///< [T, K] acc, or none
  Write write = Write::overwrite;
  Tensor out;   ///< [T, D] acc
  Tensor gram;  ///< [T, K, K] acc, or none
  void check() const;
};

/// o += o_scale Σ_t Σ_{i≠j} ‖ gram_ij / (gram_jj + ε) · y_j ‖² = Σ gram_ij² gram_jj / (gram_jj + ε)²,  ε = 1e-9
/// (Eq. 6 of arXiv 2505.22323.)
struct OrthogonalityTerm {
  Tensor gram;  ///< [T, K, K] acc
  double o_scale = 0;
  Tensor o;  ///< [1] f64, accumulated
  void check() const;
};

/// The backward of CombineRows when O is on, which needs the expert outputs y:
///   dgates_ti = ⟨dout_t, y_ti⟩;   dy_ti = gates_ti dout_t + o_scale Σ_j (∂O_t/∂gram_ij + ∂O_t/∂gram_ji) y_tj
/// (gram_ii counts as one variable with ∂gram_ii/∂y_i = 2 y_i.) Padding rows of dy are zeroed.
struct CombineBackward {
  Tensor dout;  ///< [T, D] act
  Tensor y;     ///< [R, D] act
  RowMap map;
  Tensor gates;        ///< [T, K] acc
  Tensor gram;         ///< [T, K, K] acc, of y
  double o_scale = 0;  ///< of the gradient
  Tensor dy;           ///< [R, D] act
  Tensor dgates;       ///< [T, K] acc, overwritten
  void check() const;
};

}  // namespace strand
