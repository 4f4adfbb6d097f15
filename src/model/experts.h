#pragma once
// The experts of a MoE layer, from tokens to rows and back: dispatch, compute, combine (and unsort, which combine does
// by gathering through the inverse map in slot order). SP and O live here.
//
// Where the experts are spread over the ranks of an expert group, rows travel (experts_exchange.h); the functions here
// choose by the grid, and their contracts hold in both cases.
#include <functional>
#include <vector>

#include "model/context.h"
#include "model/parameters.h"
#include "model/routing.h"

namespace strand {

/// What one chunk of arrivals (parallel/row_exchange.h) leaves on the rank of its experts: A rows, of which S are of
/// sampled tokens.
struct ArrivalsKept {
  RowMap map;                ///< the arrivals as A tokens of one slot each ↔ R rows sorted by expert
  Tensor experts;            ///< [A, 1] i32
  Tensor packed_of_arrival;  ///< [A] i32
  Tensor arrival_of_packed;  ///< [S] i32
  Tensor x;                  ///< [R, D] act, sorted by expert
  Tensor gate_up;            ///< [R, 2F] act; backward overwrites it
};

struct ExpertsKept {
  Tensor gate_up;  ///< [R, 2F] act; backward overwrites it
  Tensor y;        ///< [R, D] act, the experts' outputs; kept only when O has a weight, whose gradient needs them
  // Experts spread over ranks; instead of gate_up:
  std::vector<ArrivalsKept> chunks;
  Tensor sp_rows;  ///< [packed home rows, F] act: SP's gradient of z, made where the pairs are; none without SP

  static ExpertsKept allocate(Context& c, const Routing& r, const LossContext& loss);
};

/// Work that is independent of the experts, done once before `out` or `dx` is written; while rows travel, if they do.
using Meanwhile = std::function<void()>;

/// out [T, D] acc (+)= Σ_k g_k expert_k(x);  x [T, D] act. Adds sp and o to the terms.
void experts_forward(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
                     const LossContext& loss, const Meanwhile& meanwhile, Write write, const Tensor& out);

/// out [T, D] acc (+)= Σ_k g_k expert_k(x) and nothing else: no term, nothing kept. Every expert is on this rank.
void experts_inference(Context& c, const LayerTensors& w, const Routing& r, const Tensor& x, Write write,
                       const Tensor& out);

/// The part of forward that backward needs, again: the same operations on the same numbers, so the same bits.
void experts_recompute(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
                       const LossContext& loss);

/// dx [T, D] acc (+)= gradient of x; writes dgates [T, K] acc. dout [T, D] act.
void experts_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Routing& r,
                      const ExpertsKept& kept, const Tensor& x, const LossContext& loss, const Tensor& dout,
                      const Meanwhile& meanwhile, Write write, const Tensor& dx, const Tensor& dgates);

}  // namespace strand
