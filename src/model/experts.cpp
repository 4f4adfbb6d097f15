#include "model/experts.h"

namespace strand {

ExpertsKept allocate_experts(Context& c, const Routing& r, const LossContext& loss) {
  ExpertsKept kept{.parts = c.dispatcher.allocate_parts(c, c.step, r)};
  if (c.moe.top_k == 1) return kept;  // no pairs: SP = O = 0
  if (loss.has_gradient(Term::sp)) kept.dz_pairs = c.dispatcher.allocate_pairs(c, r);
  if (loss.has_gradient(Term::o)) kept.y = c.step.allocate("experts.y", c.types.act, {r.rows(), c.model.hidden_size});
  return kept;
}

PairGrams allocate_pair_grams(Context& c, int64_t tokens, const LossContext& loss) {
  PairGrams grams;
  const int64_t k = c.moe.top_k;
  if (k == 1) return grams;  // no pairs: SP = O = 0
  const Shape shape{tokens, k, k};
  if (loss.needs(TermInput::pairs_of_z)) grams.z = c.step.allocate("experts.gram_z", c.types.acc, shape);
  if (loss.needs(TermInput::pairs_of_y)) grams.y = c.step.allocate("experts.gram_y", c.types.acc, shape);
  return grams;
}

namespace {
Write write_beside(const FeedForwardKept& shared) {
  return shared.gate_up ? Write::accumulate : Write::overwrite;
}

// ---- forward ------------------------------------------------------------------------------------------------------

ForwardRows begin_forward(Context& c, const ExpertLayer& layer, ForwardPass pass) {
  const Routing& r = layer.routing;
  ForwardRows rows{.layer = layer, .pass = pass};
  rows.x = c.scratch.allocate("experts.rows", c.types.act, {r.rows(), c.model.hidden_size});
  rows.y = layer.kept.y;
  if (!rows.y && pass == ForwardPass::first) rows.y = rows.x;  // outputs take the place of inputs
  c.ops(DispatchRows{.x = layer.x, .map = r.map, .rows = rows.x});
  c.dispatcher.begin(c, rows);
  return rows;
}

/// Computes gate_up of every part, and y and z where they are wanted.
void compute(Context& c, const ForwardRows& rows) {
  const LayerTensors& w = rows.layer.w;
  for (size_t i = 0; i < rows.layer.kept.parts.size(); ++i) {
    const ExpertPart& part = rows.layer.kept.parts[i];
    const Arena::Scope scope(c.scratch);
    const PartRows p = c.dispatcher.receive(c, rows, i);
    c.ops(GroupedLinear{
        .x = p.x, .weight = part.of(w.gate_up), .offsets = part.map.offsets, .y = part.gate_up, .slots = part.slots});
    if (!p.y && !p.gram && !rows.z) continue;
    const Tensor z = c.scratch.allocate("experts.z", c.types.act, {part.gate_up.dim(0), c.moe.expert_ffn});
    c.ops(Swiglu{.gate_up = part.gate_up, .map = part.map, .z = z, .gram = p.gram});
    c.dispatcher.return_z(c, rows, i, z);
    if (!p.y) continue;
    c.ops(GroupedLinear{.x = z, .weight = part.of(w.down), .offsets = part.map.offsets, .y = p.y, .slots = part.slots});
    c.dispatcher.return_y(c, rows, i, p.y);
  }
  c.dispatcher.finish(c, rows);
}

void add_terms(Context& c, const PairGrams& grams, const LossContext& loss) {
  if (grams.z)
    c.ops(SpecializationTerm{
        .gram = grams.z, .sample = loss.sample, .sp_scale = loss.scale[Term::sp].value, .sp = loss.value(Term::sp)});
  if (grams.y)
    c.ops(OrthogonalityTerm{.gram = grams.y, .o_scale = loss.scale[Term::o].value, .o = loss.value(Term::o)});
}
}  // namespace

void experts_forward(Context& c, const ExpertLayer& layer, const Tensor& out) {
  const Arena::Scope scope(c.scratch);
  const Routing& r = layer.routing;
  const ForwardRows rows = begin_forward(c, layer, ForwardPass::first);
  if (layer.shared.gate_up) feed_forward_forward(c, layer.w, layer.shared, layer.x, out);
  compute(c, rows);
  c.ops(CombineRows{.rows = rows.y,
                    .map = r.map,
                    .gates = r.gates,
                    .write = write_beside(layer.shared),
                    .out = out,
                    .gram = layer.grams.y});
  if (layer.loss != nullptr) add_terms(c, layer.grams, *layer.loss);
}

void experts_recompute(Context& c, const ExpertLayer& layer) {
  const Arena::Scope scope(c.scratch);
  const ForwardRows rows = begin_forward(c, layer, ForwardPass::again);
  if (layer.shared.gate_up) feed_forward_recompute(c, layer.w, layer.shared, layer.x);
  compute(c, rows);
}

void experts_inference(Context& c, const LayerTensors& w, const Routing& r, const FeedForwardKept& shared,
                       const Tensor& x, const Tensor& out) {
  const Arena::Scope scope(c.scratch);
  const ExpertsKept kept{.parts = c.dispatcher.allocate_parts(c, c.scratch, r)};
  experts_forward(c, {.w = w, .routing = r, .kept = kept, .shared = shared, .x = x}, out);
}

// ---- backward -----------------------------------------------------------------------------------------------------

namespace {
/// Without O, the rows of dout go to the experts as they are, and the routing weight enters once, in the SwiGLU pass,
/// which also yields dgates = ⟨dz', z⟩: y is not needed. O's gradient is of y itself, so with O the weight enters here.
BackwardRows begin_backward(Context& c, const ExpertLayer& layer, const Tensor& dout, const Tensor& dgates) {
  const Routing& r = layer.routing;
  BackwardRows rows{.layer = layer};
  rows.dy = c.scratch.allocate("experts.rows", c.types.act, {r.rows(), c.model.hidden_size});
  if (layer.kept.y) {
    c.ops(CombineBackward{.dout = dout,
                          .y = layer.kept.y,
                          .map = r.map,
                          .gates = r.gates,
                          .gram = layer.grams.y,
                          .o_scale = layer.loss->scale[Term::o].gradient,
                          .dy = rows.dy,
                          .dgates = dgates});
  } else {
    c.ops(DispatchRows{.x = dout, .map = r.map, .rows = rows.dy});
    rows.dgates = dgates;
  }
  c.dispatcher.begin(c, rows);
  return rows;
}

/// The gradient of x goes home as soon as it is there; those of the weights are computed meanwhile.
void backward_part(Context& c, const BackwardRows& rows, size_t i, const LayerTensors& dw) {
  const Arena::Scope scope(c.scratch);
  const LayerTensors& w = rows.layer.w;
  const ExpertPart& part = rows.layer.kept.parts[i];
  const Tensor offsets = part.map.offsets;
  const PartGradients g = c.dispatcher.receive(c, rows, i);
  const Tensor dz = c.scratch.allocate("experts.dz", c.types.act, {part.gate_up.dim(0), c.moe.expert_ffn});
  c.ops(GroupedLinearBackwardInput{
      .dy = g.dy, .weight = part.of(w.down), .offsets = offsets, .dx = dz, .slots = part.slots});
  SwigluBackward swiglu = g.swiglu;
  swiglu.gate_up = swiglu.dgate_up = part.gate_up;
  swiglu.dz = swiglu.weighted_z = dz;
  c.ops(swiglu);
  const Tensor weighted_z = dz, dgate_up = part.gate_up;
  c.ops(GroupedLinearBackwardInput{
      .dy = dgate_up, .weight = part.of(w.gate_up), .offsets = offsets, .dx = g.dx, .slots = part.slots});
  c.dispatcher.return_dx(c, rows, i, g);
  c.ops(GroupedLinearBackwardWeight{
      .dy = g.dy, .x = weighted_z, .offsets = offsets, .dweight = part.of(dw.down), .slots = part.slots});
  c.ops(GroupedLinearBackwardWeight{.dy = dgate_up,
                                    .x = c.dispatcher.x_again(c, rows.layer, i, g.dy),
                                    .offsets = offsets,
                                    .dweight = part.of(dw.gate_up),
                                    .slots = part.slots});
}
}  // namespace

void experts_backward(Context& c, const ExpertLayer& layer, const LayerTensors& dw, const Tensor& dout,
                      const Tensor& dx, const Tensor& dgates) {
  const Arena::Scope scope(c.scratch);
  const BackwardRows rows = begin_backward(c, layer, dout, dgates);
  if (layer.shared.gate_up) feed_forward_backward(c, layer.w, dw, layer.shared, layer.x, dout, dx);
  for (size_t i = 0; i < layer.kept.parts.size(); ++i) backward_part(c, rows, i, dw);
  c.dispatcher.finish(c, rows);
  c.ops(CombineRows{.rows = rows.dx, .map = layer.routing.map, .write = write_beside(layer.shared), .out = dx});
}

}  // namespace strand
