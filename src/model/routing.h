#pragma once
// The router of a MoE layer: which experts, with which weight, and every loss that looks at routing probabilities.
// Where the rows of a layer's experts are is the dispatcher's (model/dispatcher.h).
#include <vector>

#include "model/context.h"
#include "model/parameters.h"
#include "parallel/row_exchange.h"

namespace strand {

/// What routing leaves behind: small tensors, kept under every kind of recomputation, so that a layer routes once.
struct Routing {
  Tensor logits;      ///< [T, E] acc
  Tensor probs;       ///< [T, E] acc: p
  Tensor selected;    ///< [T, K] i32
  Tensor gates;       ///< [T, K] acc: g
  Tensor statistics;  ///< [2, groups, E] acc: counts and sums of p
  RowMap map;         ///< slots ↔ rows of the expert buffers
  // What the measured terms need; none in a step that does not measure them.
  Tensor gram_z;  ///< [T, K, K] acc, of the experts' z (SP); none when K = 1
  Tensor gram_y;  ///< [T, K, K] acc, of their outputs (O); none when K = 1
  // CP, per layer: token form
  Tensor source_mass, top_mass;  ///< [T] acc
  Tensor top_experts;            ///< [T, K] i32
  // CP with the MoE layer above: batch form
  Tensor joint_mask;  ///< [E, E'] acc, of the pair (this layer, the one above); none in the last layer
  // Experts spread over P ranks:
  Tensor counts;          ///< [2, E, 2] i32: rows of this rank's tokens by expert, of sampled tokens and of others; and
                          ///< the same of the rows that arrive, [P, E/P, 2]
  Tensor packed_of_slot;  ///< [T, K] i32: places among the rows of sampled tokens, −1: not in the sample
  RowExchange exchange;   ///< on the host, from Dispatcher::count

  static Routing allocate(Context& c, const Batch& batch, const LossContext& loss);
  /// What choosing experts and finding their rows needs; the loss terms' tensors stay none.
  static Routing allocate_without_terms(Context& c, int64_t tokens);
  int64_t rows() const { return map.slot_of_row.dim(0); }
};

/// How the router chooses, as operations take it.
Gating gating(const MoeConfig& moe);

/// Routes x [T, D] act; adds lb, z and v to the terms and selections to step_counts [E] acc.
/// `layer` counts MoE layers; the observer is told of it.
void route_forward(Context& c, int64_t layer, const LayerTensors& w, const Tensor& bias, const Tensor& x,
                   const Routing& r, const LossContext& loss, const Tensor& step_counts);

/// Routes without any loss term: r.logits, probs, selected, gates and map.
void route_inference(Context& c, const LayerTensors& w, const Tensor& bias, const Tensor& x, const Routing& r);

/// The coupling term between two adjacent MoE layers, once both have routed.
void coupling_forward(Context& c, const Routing& lower, const Routing& upper, const LossContext& loss);

/// Gradients of everything that depends on a layer's routing: dgates [T, K] acc, the terms, and coupling with the MoE
/// layers below and above (nullptr at the ends). Adds to dx [T, D] acc.
void route_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Tensor& x, const Routing& r,
                    const Routing* below, const Routing* above, const LossContext& loss, const Tensor& dgates,
                    const Tensor& dx);

}  // namespace strand
