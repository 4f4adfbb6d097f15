#pragma once
// The router of a MoE layer: it chooses experts and their weights, and computes every loss term that looks at routing
// probabilities. Where the rows of a layer's experts lie is the dispatcher's business (model/dispatcher.h).
#include <vector>

#include "model/context.h"
#include "model/parameters.h"
#include "parallel/row_exchange.h"

namespace strand {

/// What routing leaves behind. These small tensors are kept under every kind of recomputation, so a layer routes once.
struct Routing {
  Tensor logits;      ///< [T, E] acc
  Tensor probs;       ///< [T, E] acc: p
  Tensor selected;    ///< [T, K] i32
  Tensor gates;       ///< [T, K] acc: g
  Tensor statistics;  ///< [2, groups, E] acc: counts and sums of p
  RowMap map;         ///< slots ↔ rows of the expert buffers
  // What CP needs; none in a step that does not measure it. Of each layer, in the token form:
  Tensor source_mass, top_mass;  ///< [T] acc
  Tensor top_experts;            ///< [T, K] i32
  // Of each layer with the MoE layer above it, in the batch form:
  Tensor joint_mask;  ///< [E, E'] acc, of the pair (this layer, the one above); none in the last layer
  // Experts spread over P ranks:
  Tensor counts;          ///< [2, E, 2] i32: rows of this rank's tokens by expert, of sampled tokens and of others; and
                          ///< the same of the rows that arrive, [P, E/P, 2]
  Tensor packed_of_slot;  ///< [T, K] i32: places among the rows of sampled tokens, −1: not in the sample
  RowExchange exchange;   ///< on the host, from Dispatcher::count

  static Routing allocate(Context& c, const Batch& batch, const LossContext& loss);
  /// Allocates what choosing experts and finding their rows needs. The tensors of the loss terms stay none.
  static Routing allocate_without_terms(Context& c, int64_t tokens);
  int64_t rows() const { return map.slot_of_row.dim(0); }
};

/// The configuration's way of choosing experts, as operations take it.
Gating gating(const MoeConfig& moe);

/// Routes x [T, D] act. Adds lb, z, v and entropy to the terms and selections to step_counts [E] acc. `layer` counts
/// MoE layers and is told to the observer.
void route_forward(Context& c, int64_t layer, const LayerTensors& w, const Tensor& bias, const Tensor& x,
                   const Routing& r, const LossContext& loss, const Tensor& step_counts);

/// Routes without any loss term: writes r.logits, probs, selected, gates and map.
void route_inference(Context& c, const LayerTensors& w, const Tensor& bias, const Tensor& x, const Routing& r);

/// Adds the coupling term between two adjacent MoE layers. Both have routed before.
void coupling_forward(Context& c, const Routing& lower, const Routing& upper, const LossContext& loss);

/// Adds to dx [T, D] acc, and to the router's weight gradient, the gradients of all that depends on a layer's routing:
/// dgates [T, K] acc, the terms, and the coupling with the MoE layers below and above (nullptr at the ends).
void route_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Tensor& x, const Routing& r,
                    const Routing* below, const Routing* above, const LossContext& loss, const Tensor& dgates,
                    const Tensor& dx);

}  // namespace strand
