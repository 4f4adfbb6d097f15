#pragma once
// The experts of a MoE layer when they are spread over the ranks of an expert group: the functions of experts.h with
// rows that travel. The seven phases of the exchange are route, count and sort (routing.h), dispatch, compute, combine
// and unsort (here); SP stays exact, because z rows travel home beside the outputs, where all rows of a token meet, and
// SP's gradient of them travels back beside the outputs' gradient.
//
//                 home                                    rank of the experts
//   forward       x ──────── dispatch ──────────────────→ gate_up, z, y = z W_down
//                 out = Σ g y, O ←──────── combine ────── y
//                 SP, its gradient ←─ specialization ──── z
//   backward      ∂out, g ── dispatch ──────────────────→ ∂z = g ∂out W_down + SP's; ∂gate_up; ∂x; ∂W
//                 SP's gradient ── specialization ──────→
//                 ∂x, ∂g ←──────────────── combine ────── ∂x, ∂g
//
// Rows travel in chunks: while one is computed the next arrives and the one before goes home. With parallel.overlap off
// each is waited for at once; operations and their order are the same, so the bits are too.
#include "model/experts.h"

namespace strand::exchange {

/// Adds what the exchange keeps to `kept`.
void allocate(Context& c, const Routing& r, const LossContext& loss, ExpertsKept& kept);

void forward(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
             const LossContext& loss, const Meanwhile& meanwhile, Write write, const Tensor& out);

void recompute(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
               const LossContext& loss);

void backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Routing& r, const ExpertsKept& kept,
              const LossContext& loss, const Tensor& dout, const Meanwhile& meanwhile, Write write, const Tensor& dx,
              const Tensor& dgates);

}  // namespace strand::exchange
