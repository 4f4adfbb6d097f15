#include "model/experts.h"

#include "model/experts_exchange.h"

namespace strand {

namespace {
int64_t expert_width(const LayerTensors& w) {
  return w.down.dim(2);
}

void dispatch(Context& c, const Tensor& x, const Routing& r, const Tensor& rows) {
  c.ops(DispatchRows{.x = x, .map = r.map, .rows = rows});
}
}  // namespace

ExpertsKept ExpertsKept::allocate(Context& c, const Routing& r, const LossContext& loss) {
  ExpertsKept k;
  if (c.grid.expert_parallel() > 1) {
    exchange::allocate(c, r, loss, k);
    return k;
  }
  k.gate_up = c.step.allocate("experts.gate_up", c.types.act, {r.rows(), 2 * c.moe.expert_ffn});
  if (loss.has_gradient(Term::o) && c.moe.top_k > 1)
    k.y = c.step.allocate("experts.y", c.types.act, {r.rows(), c.model.hidden_size});
  return k;
}

namespace {
/// gate_up and y, the latter into `y` (which may be the memory of `rows`).
void experts_compute(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
                     const Tensor& rows, const Tensor& gram_z, const Tensor& y) {
  const int64_t slots = r.selected.elements();
  const Tensor z = c.scratch.allocate("experts.z", c.types.act, {r.rows(), expert_width(w)});
  dispatch(c, x, r, rows);
  c.ops(GroupedLinear{.x = rows, .weight = w.gate_up, .offsets = r.map.offsets, .y = kept.gate_up, .slots = slots});
  if (!y) return;
  c.ops(Swiglu{.gate_up = kept.gate_up, .map = r.map, .z = z, .gram = gram_z});
  c.ops(GroupedLinear{.x = z, .weight = w.down, .offsets = r.map.offsets, .y = y, .slots = slots});
}
}  // namespace

void experts_forward(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
                     const LossContext& loss, const Meanwhile& meanwhile, Write write, const Tensor& out) {
  if (c.grid.expert_parallel() > 1) return exchange::forward(c, w, r, kept, x, loss, meanwhile, write, out);
  meanwhile();
  const Arena::Scope scope(c.scratch);
  const Tensor rows = c.scratch.allocate("experts.rows", c.types.act, {r.rows(), c.model.hidden_size});
  const Tensor y = kept.y ? kept.y : rows;
  experts_compute(c, w, r, kept, x, rows, r.gram_z, y);
  c.ops(CombineRows{.rows = y, .map = r.map, .gates = r.gates, .write = write, .out = out, .gram = r.gram_y});
  if (r.gram_z)
    c.ops(SpecializationTerm{
        .gram = r.gram_z, .sample = loss.sample, .sp_scale = loss.scale[Term::sp].value, .sp = loss.value(Term::sp)});
  if (r.gram_y)
    c.ops(OrthogonalityTerm{.gram = r.gram_y, .o_scale = loss.scale[Term::o].value, .o = loss.value(Term::o)});
}

void experts_inference(Context& c, const LayerTensors& w, const Routing& r, const Tensor& x, Write write,
                       const Tensor& out) {
  const Arena::Scope scope(c.scratch);
  const Tensor rows = c.scratch.allocate("experts.rows", c.types.act, {r.rows(), c.model.hidden_size});
  const ExpertsKept kept{.gate_up = c.scratch.allocate("experts.gate_up", c.types.act, {r.rows(), 2 * expert_width(w)}),
                         .y = {}};
  experts_compute(c, w, r, kept, x, rows, {}, rows);
  c.ops(CombineRows{.rows = rows, .map = r.map, .gates = r.gates, .write = write, .out = out});
}

void experts_recompute(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
                       const LossContext& loss) {
  if (c.grid.expert_parallel() > 1) return exchange::recompute(c, w, r, kept, x, loss);
  const Arena::Scope scope(c.scratch);
  const Tensor rows = c.scratch.allocate("experts.rows", c.types.act, {r.rows(), c.model.hidden_size});
  experts_compute(c, w, r, kept, x, rows, {}, kept.y);
}

void experts_backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Routing& r,
                      const ExpertsKept& kept, const Tensor& x, const LossContext& loss, const Tensor& dout,
                      const Meanwhile& meanwhile, Write write, const Tensor& dx, const Tensor& dgates) {
  if (c.grid.expert_parallel() > 1)
    return exchange::backward(c, w, dw, r, kept, loss, dout, meanwhile, write, dx, dgates);
  meanwhile();
  const Arena::Scope scope(c.scratch);
  const int64_t slots = r.selected.elements();
  const Tensor offsets = r.map.offsets;
  const Tensor rows = c.scratch.allocate("experts.rows", c.types.act, {r.rows(), c.model.hidden_size});
  const Tensor drows = c.scratch.allocate("experts.drows", c.types.act, rows.shape);
  const Tensor dz = c.scratch.allocate("experts.dz", c.types.act, {r.rows(), expert_width(w)});

  // Without O, the rows of dout go down unweighted, and the routing weight enters once, in the SwiGLU pass, which also
  // yields dgates = ⟨dz', z⟩: y is not needed. O's gradient is of y itself, so with O the weight enters here.
  const bool orthogonality = static_cast<bool>(kept.y);
  if (orthogonality) {
    c.ops(CombineBackward{.dout = dout,
                          .y = kept.y,
                          .map = r.map,
                          .gates = r.gates,
                          .gram = r.gram_y,
                          .o_scale = loss.scale[Term::o].gradient,
                          .dy = drows,
                          .dgates = dgates});
  } else {
    dispatch(c, dout, r, drows);
  }
  c.ops(GroupedLinearBackwardInput{.dy = drows, .weight = w.down, .offsets = offsets, .dx = dz, .slots = slots});
  c.ops(SwigluBackward{.gate_up = kept.gate_up,
                       .dz = dz,
                       .map = r.map,
                       .gates = orthogonality ? Tensor{} : r.gates,
                       .gram = r.gram_z,
                       .sp_scale = r.gram_z ? loss.scale[Term::sp].gradient : 0.0,
                       .sample = loss.sample,
                       .weighted_z = dz,
                       .dgate_up = kept.gate_up,
                       .dgates = orthogonality ? Tensor{} : dgates});
  const Tensor weighted_z = dz, dgate_up = kept.gate_up;
  c.ops(GroupedLinearBackwardWeight{
      .dy = drows, .x = weighted_z, .offsets = offsets, .dweight = dw.down, .slots = slots});
  dispatch(c, x, r, rows);
  c.ops(GroupedLinearBackwardWeight{
      .dy = dgate_up, .x = rows, .offsets = offsets, .dweight = dw.gate_up, .slots = slots});
  c.ops(
      GroupedLinearBackwardInput{.dy = dgate_up, .weight = w.gate_up, .offsets = offsets, .dx = drows, .slots = slots});
  c.ops(CombineRows{.rows = drows, .map = r.map, .write = write, .out = dx});
}

}  // namespace strand
