// The dispatcher for layouts with every expert on this rank: there is one part, and nothing travels.
#include "model/dispatcher.h"

namespace strand {

namespace {
class LocalDispatcher final : public Dispatcher {
 public:
  void allocate_maps(Context& c, Routing& r) override {
    const int64_t experts = c.moe.num_experts;
    const int64_t rows = r.selected.elements() + experts * (c.ops.device().row_alignment() - 1);
    r.map.row_of_slot = c.step.allocate("router.row_of_slot", DType::i32, r.selected.shape);
    r.map.slot_of_row = c.step.allocate("router.slot_of_row", DType::i32, {rows});
    r.map.offsets = c.step.allocate("router.offsets", DType::i32, {experts + 1});
  }

  void sort(Context& c, const TokenSample&, const Routing& r) override {
    c.ops(SortSlots{.selected = r.selected, .alignment = c.ops.device().row_alignment(), .map = r.map});
  }

  void count(Context&, const TokenSample&, Routing&) override {}
  int64_t rows_here(const Routing& r) const override { return r.selected.elements(); }

  std::vector<ExpertPart> allocate_parts(Context& c, Arena& arena, const Routing& r) override {
    const Tensor gate_up = arena.allocate("experts.gate_up", c.types.act, {r.rows(), 2 * c.moe.expert_ffn});
    return {{.experts = c.moe.num_experts, .slots = r.selected.elements(), .map = r.map, .gate_up = gate_up}};
  }

  /// SP's gradient is formed in the backward pass of SwiGLU, where all rows of a token are at hand.
  Tensor allocate_pairs(Context&, const Routing&) override { return {}; }

  void begin(Context&, ForwardRows&) override {}
  PartRows receive(Context&, const ForwardRows& rows, size_t) override {
    return {.x = rows.x, .y = rows.y, .gram = rows.pass == ForwardPass::first ? rows.layer.grams.z : Tensor{}};
  }
  void return_z(Context&, const ForwardRows&, size_t, const Tensor&) override {}
  void return_y(Context&, const ForwardRows&, size_t, const Tensor&) override {}
  void finish(Context&, const ForwardRows&) override {}

  void begin(Context& c, BackwardRows& rows) override {
    rows.dx = c.scratch.allocate("experts.dx", c.types.act, rows.dy.shape);
  }
  PartGradients receive(Context&, const BackwardRows& rows, size_t) override {
    const Routing& r = rows.layer.routing;
    const LossContext& loss = *rows.layer.loss;
    const Tensor& gram = rows.layer.grams.z;
    return {.dy = rows.dy,
            .dx = rows.dx,
            .swiglu = {.map = r.map,
                       .gates = rows.dgates ? r.gates : Tensor{},
                       .gram = gram,
                       .sp_scale = gram ? loss.scale[Term::sp].gradient : 0.0,
                       .sample = loss.sample,
                       .dgates = rows.dgates}};
  }
  void return_dx(Context&, const BackwardRows&, size_t, const PartGradients&) override {}
  /// The rows are dispatched once more, as it would cost memory to keep this copy of the tokens.
  Tensor x_again(Context& c, const ExpertLayer& layer, size_t, const Tensor& memory) override {
    c.ops(DispatchRows{.x = layer.x, .map = layer.routing.map, .rows = memory});
    return memory;
  }
  void finish(Context&, const BackwardRows&) override {}
};
}  // namespace

std::unique_ptr<Dispatcher> make_local_dispatcher() {
  return std::make_unique<LocalDispatcher>();
}

}  // namespace strand
