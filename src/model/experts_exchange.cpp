#include "model/experts_exchange.h"

namespace strand::exchange {

namespace {
using Work = Communicator::Work;

/// Of one chunk while its rows are on their way.
struct Flight {
  Tensor rows;           ///< [A, D] act, as they arrive and as they leave
  Tensor pairs;          ///< [S, F] act: z on its way home, or SP's gradient coming
  Tensor gates, dgates;  ///< [A, 1] acc
  Work rows_work, pairs_work, gates_work;
};

/// With overlap off the journey ends here.
Work begin(Context& c, Traffic kind, Direction direction, const RankRows& send, const RankRows& receive) {
  Work work = c.grid.experts().begin_all_to_all(kind, direction, send, receive);
  if (!c.parallel.overlap) c.grid.experts().wait(work);
  return work;
}

void wait(Context& c, Flight& flight) {
  for (Work* work : {&flight.rows_work, &flight.pairs_work, &flight.gates_work}) c.grid.experts().wait(*work);
}

void wait_for_all(Context& c, const char* what, std::vector<Flight>& flights) {
  c.grid.progress().now(what);
  for (Flight& flight : flights) wait(c, flight);
}

int64_t expert_width(const LayerTensors& w) {
  return w.down.dim(2);
}

/// The chunk's experts.
Tensor part(const Tensor& weights, const RowChunk& chunk) {
  return weights.rows(chunk.first_expert, chunk.first_expert + chunk.experts);
}

/// Arriving rows as tokens of one slot each, sorted by expert.
void sort_arrivals(Context& c, const Routing& r, const RowChunk& chunk, const ArrivalsKept& kept) {
  const Arena::Scope scope(c.scratch);
  const int64_t ranks = c.grid.expert_parallel(), local = c.moe.num_experts / ranks;
  const Tensor all = r.counts[1].view({ranks, local, 2});
  Tensor counts = all;
  if (chunk.experts != local) {
    counts = c.scratch.allocate("experts.counts", DType::i32, {ranks, chunk.experts, 2});
    for (int64_t p = 0; p < ranks; ++p) c.ops(Copy{.from = part(all[p], chunk), .to = counts[p]});
  }
  c.ops(ArrivalMap{.counts = counts,
                   .experts = kept.experts,
                   .packed_of_arrival = kept.packed_of_arrival,
                   .arrival_of_packed = kept.arrival_of_packed});
  c.ops(SortSlots{.selected = kept.experts, .alignment = c.ops.device().row_alignment(), .map = kept.map});
}

/// SP's gradient of z, in z's own memory, while its values are still there.
void specialization_backward(Context& c, const Routing& r, const ExpertsKept& kept, const LossContext& loss) {
  if (!kept.sp_rows) return;
  c.ops(SpecializationBackward{.z = kept.sp_rows,
                               .row_of_slot = r.packed_of_slot,
                               .gram = r.gram_z,
                               .sp_scale = loss.scale[Term::sp].gradient,
                               .drows = kept.sp_rows});
}

/// Dispatch, compute and the way home of what is wanted there: outputs in y_home [T·K, D], z of sampled tokens in
/// z_home; either may be none. `home` [T·K, D] is what is sent, and may be y_home: a chunk's outputs take the place of
/// its inputs.
void compute(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
             const Meanwhile& meanwhile, const Tensor& home, const Tensor& y_home, const Tensor& z_home) {
  const int64_t d = c.model.hidden_size, f = expert_width(w);
  std::vector<Flight> flights(r.exchange.chunks.size());
  c.grid.progress().now("dispatch");
  c.ops(DispatchRows{.x = x, .map = r.map, .rows = home});
  for (size_t i = 0; i < flights.size(); ++i) {
    const RowChunk& chunk = r.exchange.chunks[i];
    flights[i].rows = c.scratch.allocate("experts.arrivals", c.types.act, {chunk.arrivals, d});
    if (z_home) flights[i].pairs = c.scratch.allocate("experts.z (packed)", c.types.act, {chunk.packed_arrivals, f});
    flights[i].rows_work =
        begin(c, Traffic::dispatch, Direction::to_experts, chunk.home(home), chunk.arriving(flights[i].rows));
  }
  meanwhile();
  for (size_t i = 0; i < flights.size(); ++i) {
    const RowChunk& chunk = r.exchange.chunks[i];
    const ArrivalsKept& k = kept.chunks[i];
    Flight& flight = flights[i];
    wait(c, flight);
    sort_arrivals(c, r, chunk, k);
    c.ops(DispatchRows{.x = flight.rows, .map = k.map, .rows = k.x});
    c.ops(GroupedLinear{
        .x = k.x, .weight = part(w.gate_up, chunk), .offsets = k.map.offsets, .y = k.gate_up, .slots = chunk.arrivals});
    if (!y_home && !z_home) continue;
    const Arena::Scope scope(c.scratch);
    const Tensor z = c.scratch.allocate("experts.z", c.types.act, {k.gate_up.dim(0), f});
    c.ops(Swiglu{.gate_up = k.gate_up, .map = k.map, .z = z});
    if (z_home) {
      c.ops(GatherRows{.from = z, .index = k.arrival_of_packed, .via = k.map.row_of_slot, .to = flight.pairs});
      flight.pairs_work = begin(c, Traffic::specialization, Direction::home, chunk.packed_arriving(flight.pairs),
                                chunk.packed_home(z_home));
    }
    if (!y_home) continue;
    const Tensor y = c.scratch.allocate("experts.rows", c.types.act, k.x.shape);
    c.ops(GroupedLinear{
        .x = z, .weight = part(w.down, chunk), .offsets = k.map.offsets, .y = y, .slots = chunk.arrivals});
    c.ops(GatherRows{.from = y, .index = k.map.row_of_slot, .to = flight.rows});
    flight.rows_work = begin(c, Traffic::combine, Direction::home, chunk.arriving(flight.rows), chunk.home(y_home));
  }
  wait_for_all(c, "combine", flights);
}
}  // namespace

void allocate(Context& c, const Routing& r, const LossContext& loss, ExpertsKept& kept) {
  const int64_t d = c.model.hidden_size, f = c.moe.expert_ffn;
  for (const RowChunk& chunk : r.exchange.chunks) {
    const int64_t rows = chunk.arrivals + chunk.experts * (c.ops.device().row_alignment() - 1);
    const auto index = [&](const char* name, const Shape& shape) { return c.step.allocate(name, DType::i32, shape); };
    ArrivalsKept k;
    k.map.row_of_slot = index("experts.row_of_arrival", {chunk.arrivals, 1});
    k.map.slot_of_row = index("experts.arrival_of_row", {rows});
    k.map.offsets = index("experts.offsets", {chunk.experts + 1});
    k.experts = index("experts.expert_of_arrival", {chunk.arrivals, 1});
    k.packed_of_arrival = index("experts.packed_of_arrival", {chunk.arrivals});
    k.arrival_of_packed = index("experts.arrival_of_packed", {chunk.packed_arrivals});
    k.x = c.step.allocate("experts.x", c.types.act, {rows, d});
    k.gate_up = c.step.allocate("experts.gate_up", c.types.act, {rows, 2 * f});
    kept.chunks.push_back(k);
  }
  if (c.moe.top_k == 1) return;
  if (loss.has_gradient(Term::sp))
    kept.sp_rows = c.step.allocate("experts.sp", c.types.act, {r.exchange.packed_home_rows, f});
  if (loss.has_gradient(Term::o)) kept.y = c.step.allocate("experts.y", c.types.act, {r.exchange.home_rows, d});
}

void forward(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
             const LossContext& loss, const Meanwhile& meanwhile, Write write, const Tensor& out) {
  const Arena::Scope scope(c.scratch);
  const Tensor home = c.scratch.allocate("experts.rows", c.types.act, {r.exchange.home_rows, c.model.hidden_size});
  const Tensor y = kept.y ? kept.y : home;
  Tensor z = kept.sp_rows;
  if (!z && r.gram_z)
    z = c.scratch.allocate("experts.z (home)", c.types.act, {r.exchange.packed_home_rows, expert_width(w)});
  compute(c, w, r, kept, x, meanwhile, home, y, z);
  c.ops(CombineRows{.rows = y, .map = r.map, .gates = r.gates, .write = write, .out = out, .gram = r.gram_y});
  if (r.gram_y)
    c.ops(OrthogonalityTerm{.gram = r.gram_y, .o_scale = loss.scale[Term::o].value, .o = loss.value(Term::o)});
  if (!r.gram_z) return;
  c.ops(SlotGram{.rows = z, .row_of_slot = r.packed_of_slot, .gram = r.gram_z});
  c.ops(SpecializationTerm{
      .gram = r.gram_z, .sample = loss.sample, .sp_scale = loss.scale[Term::sp].value, .sp = loss.value(Term::sp)});
  specialization_backward(c, r, kept, loss);
}

void recompute(Context& c, const LayerTensors& w, const Routing& r, const ExpertsKept& kept, const Tensor& x,
               const LossContext& loss) {
  const Arena::Scope scope(c.scratch);
  const Tensor home = c.scratch.allocate("experts.rows", c.types.act, {r.exchange.home_rows, c.model.hidden_size});
  compute(
      c, w, r, kept, x, [] {}, home, kept.y, kept.sp_rows);
  specialization_backward(c, r, kept, loss);
}

// ---- backward -----------------------------------------------------------------------------------------------------

namespace {
/// What travels to the experts: the gradient of their outputs (with O, or of the weighted sum), the routing weights
/// (not with O) and SP's gradient.
void begin_backward(Context& c, const RowChunk& chunk, const Tensor& home, const Tensor& gates, const Tensor& sp_rows,
                    Flight& flight) {
  flight.rows = c.scratch.allocate("experts.arrivals", c.types.act, {chunk.arrivals, c.model.hidden_size});
  flight.rows_work = begin(c, Traffic::dispatch, Direction::to_experts, chunk.home(home), chunk.arriving(flight.rows));
  if (gates) {
    flight.gates = c.scratch.allocate("experts.gates", c.types.acc, {chunk.arrivals, 1});
    flight.dgates = c.scratch.allocate("experts.dgates", c.types.acc, {chunk.arrivals, 1});
    flight.gates_work =
        begin(c, Traffic::dispatch, Direction::to_experts, chunk.home(gates), chunk.arriving(flight.gates));
  }
  if (sp_rows) {
    flight.pairs = c.scratch.allocate("experts.dz (pairs)", c.types.act, {chunk.packed_arrivals, sp_rows.dim(1)});
    flight.pairs_work = begin(c, Traffic::specialization, Direction::to_experts, chunk.packed_home(sp_rows),
                              chunk.packed_arriving(flight.pairs));
  }
}

/// One chunk on the rank of its experts. The gradient of x goes home as soon as it is there; those of the weights are
/// computed meanwhile.
void backward_chunk(Context& c, const LayerTensors& w, const LayerTensors& dw, const RowChunk& chunk,
                    const ArrivalsKept& k, const Tensor& home, const Tensor& dgates, Flight& flight) {
  const Arena::Scope scope(c.scratch);
  const Tensor offsets = k.map.offsets;
  const int64_t slots = chunk.arrivals;
  const Tensor drows = c.scratch.allocate("experts.drows", c.types.act, k.x.shape);
  const Tensor dz = c.scratch.allocate("experts.dz", c.types.act, {k.gate_up.dim(0), expert_width(w)});
  const Tensor dx = c.scratch.allocate("experts.dx", c.types.act, k.x.shape);
  c.ops(DispatchRows{.x = flight.rows, .map = k.map, .rows = drows});
  c.ops(GroupedLinearBackwardInput{
      .dy = drows, .weight = part(w.down, chunk), .offsets = offsets, .dx = dz, .slots = slots});
  c.ops(SwigluBackward{.gate_up = k.gate_up,
                       .dz = dz,
                       .map = k.map,
                       .gates = flight.gates,
                       .dz_pairs = flight.pairs,
                       .pair_of_slot = flight.pairs ? k.packed_of_arrival.view({slots, 1}) : Tensor{},
                       .weighted_z = dz,
                       .dgate_up = k.gate_up,
                       .dgates = flight.dgates});
  const Tensor weighted_z = dz, dgate_up = k.gate_up;
  c.ops(GroupedLinearBackwardInput{
      .dy = dgate_up, .weight = part(w.gate_up, chunk), .offsets = offsets, .dx = dx, .slots = slots});
  c.ops(GatherRows{.from = dx, .index = k.map.row_of_slot, .to = flight.rows});
  flight.rows_work = begin(c, Traffic::combine, Direction::home, chunk.arriving(flight.rows), chunk.home(home));
  if (dgates)
    flight.gates_work = begin(c, Traffic::combine, Direction::home, chunk.arriving(flight.dgates), chunk.home(dgates));
  c.ops(GroupedLinearBackwardWeight{
      .dy = drows, .x = weighted_z, .offsets = offsets, .dweight = part(dw.down, chunk), .slots = slots});
  c.ops(GroupedLinearBackwardWeight{
      .dy = dgate_up, .x = k.x, .offsets = offsets, .dweight = part(dw.gate_up, chunk), .slots = slots});
}
}  // namespace

void backward(Context& c, const LayerTensors& w, const LayerTensors& dw, const Routing& r, const ExpertsKept& kept,
              const LossContext& loss, const Tensor& dout, const Meanwhile& meanwhile, Write write, const Tensor& dx,
              const Tensor& dgates) {
  const Arena::Scope scope(c.scratch);
  const int64_t slots = r.exchange.home_rows;
  const Tensor home = c.scratch.allocate("experts.rows", c.types.act, {slots, c.model.hidden_size});
  Tensor gates_home, dgates_home;  // by home row
  c.grid.progress().now("dispatch of gradients");
  if (kept.y) {
    c.ops(CombineBackward{.dout = dout,
                          .y = kept.y,
                          .map = r.map,
                          .gates = r.gates,
                          .gram = r.gram_y,
                          .o_scale = loss.scale[Term::o].gradient,
                          .dy = home,
                          .dgates = dgates});
  } else {
    gates_home = c.scratch.allocate("experts.gates (home)", c.types.acc, {slots, 1});
    dgates_home = c.scratch.allocate("experts.dgates (home)", c.types.acc, {slots, 1});
    c.ops(DispatchRows{.x = dout, .map = r.map, .rows = home});
    c.ops(GatherRows{.from = r.gates.view({slots, 1}), .index = r.map.slot_of_row, .to = gates_home});
  }
  std::vector<Flight> flights(r.exchange.chunks.size());
  for (size_t i = 0; i < flights.size(); ++i)
    begin_backward(c, r.exchange.chunks[i], home, gates_home, kept.sp_rows, flights[i]);
  meanwhile();
  for (size_t i = 0; i < flights.size(); ++i) {
    wait(c, flights[i]);
    backward_chunk(c, w, dw, r.exchange.chunks[i], kept.chunks[i], home, dgates_home, flights[i]);
  }
  wait_for_all(c, "combine of gradients", flights);
  c.ops(CombineRows{.rows = home, .map = r.map, .write = write, .out = dx});
  if (dgates_home) c.ops(GatherRows{.from = dgates_home, .index = r.map.row_of_slot, .to = dgates.view({slots, 1})});
}

}  // namespace strand::exchange
