// The dispatcher for experts that are spread over the ranks of an expert group. Rows travel by all-to-alls of uneven
// sizes, in chunks.
#include <algorithm>
#include <span>

#include "model/dispatcher.h"

namespace strand {

namespace {
class SpreadDispatcher final : public Dispatcher {
 public:
  SpreadDispatcher(Device& device, int64_t experts)
      : counts_on_host_(device, MemoryKind::staging, static_cast<size_t>(2 * experts * 2) * sizeof(int32_t)),
        counts_there_(device.make_event()),
        counts_copied_(device.make_event()) {}

  // ---- routing

  /// Rows that travel need no padding.
  void allocate_maps(Context& c, Routing& r) override {
    const int64_t experts = c.moe.num_experts;
    r.map.row_of_slot = c.step.allocate("router.row_of_slot", DType::i32, r.selected.shape);
    r.map.slot_of_row = c.step.allocate("router.slot_of_row", DType::i32, {r.selected.elements()});
    r.map.offsets = c.step.allocate("router.offsets", DType::i32, {experts + 1});
    r.counts = c.step.allocate("router.counts", DType::i32, {2, experts, 2});
    r.packed_of_slot = c.step.allocate("router.packed_of_slot", DType::i32, r.selected.shape);
  }

  void sort(Context& c, const TokenSample& sample, const Routing& r) override {
    c.ops(SortForExchange{.selected = r.selected, .sample = sample, .map = r.map, .counts = r.counts[0]});
    begin_counts(c, r);
    c.ops(SampledSlots{.counts = r.counts[0], .row_of_slot = r.map.row_of_slot, .packed_of_slot = r.packed_of_slot});
  }

  void count(Context& c, const TokenSample& sample, Routing& r) override {
    Communicator& group = c.grid.experts();
    const int ranks = group.size();
    const int64_t experts = c.moe.num_experts;
    const auto numbers = static_cast<size_t>(2 * experts);
    group.wait(counts_work_);
    std::vector<int32_t> counts(2 * numbers);
    if (group.only_counts()) {
      const std::vector<int32_t> even = even_counts(r.selected.elements(), experts, sample.fraction);
      for (size_t i = 0; i < 2 * numbers; ++i) counts[i] = even[i % numbers];
    } else {
      read_counts(c, r, counts);
    }
    r.exchange = RowExchange(std::span<const int32_t>(counts).first(numbers),
                             std::span<const int32_t>(counts).last(numbers), ranks, c.parallel.exchange_chunks);
  }

  int64_t rows_here(const Routing& r) const override { return r.exchange.arrivals; }

  // ---- memory

  std::vector<ExpertPart> allocate_parts(Context& c, Arena& arena, const Routing& r) override {
    std::vector<ExpertPart> parts;
    for (const RowChunk& chunk : r.exchange.chunks) {
      const int64_t rows = chunk.arrivals + chunk.experts * (c.ops.device().row_alignment() - 1);
      const auto index = [&](const char* name, const Shape& shape) { return arena.allocate(name, DType::i32, shape); };
      ExpertPart part{.first_expert = chunk.first_expert, .experts = chunk.experts, .slots = chunk.arrivals};
      part.map.row_of_slot = index("experts.row_of_arrival", {chunk.arrivals, 1});
      part.map.slot_of_row = index("experts.arrival_of_row", {rows});
      part.map.offsets = index("experts.offsets", {chunk.experts + 1});
      part.expert_of_arrival = index("experts.expert_of_arrival", {chunk.arrivals, 1});
      part.packed_of_arrival = index("experts.packed_of_arrival", {chunk.arrivals});
      part.arrival_of_packed = index("experts.arrival_of_packed", {chunk.packed_arrivals});
      part.x = arena.allocate("experts.x", c.types.act, {rows, c.model.hidden_size});
      part.gate_up = arena.allocate("experts.gate_up", c.types.act, {rows, 2 * c.moe.expert_ffn});
      parts.push_back(part);
    }
    return parts;
  }

  Tensor allocate_pairs(Context& c, const Routing& r) override {
    return c.step.allocate("experts.sp", c.types.act, {r.exchange.packed_home_rows, c.moe.expert_ffn});
  }

  // ---- forward

  void begin(Context& c, ForwardRows& rows) override {
    const auto& [layer, pass, x, y, z] = rows;
    const Routing& r = layer.routing;
    c.grid.progress().now("dispatch");
    rows.z = layer.kept.dz_pairs;
    if (!rows.z && pass == ForwardPass::first && layer.grams.z)
      rows.z = c.scratch.allocate("experts.z (home)", c.types.act, {r.exchange.packed_home_rows, c.moe.expert_ffn});
    flights_.assign(r.exchange.chunks.size(), Flight{});
    for (size_t i = 0; i < flights_.size(); ++i) {
      const RowChunk& chunk = r.exchange.chunks[i];
      Flight& flight = flights_[i];
      flight.rows = c.scratch.allocate("experts.arrivals", c.types.act, {chunk.arrivals, c.model.hidden_size});
      if (rows.z)
        flight.pairs = c.scratch.allocate("experts.z (packed)", c.types.act, {chunk.packed_arrivals, c.moe.expert_ffn});
      flight.rows_work = begin_journey(c, Traffic::dispatch, OwnRows::sent, chunk.home(x), chunk.arriving(flight.rows));
    }
  }

  PartRows receive(Context& c, const ForwardRows& rows, size_t part) override {
    const ExpertPart& kept = rows.layer.kept.parts[part];
    wait(c, flights_[part]);
    sort_arrivals(c, rows.layer.routing, kept);
    c.ops(DispatchRows{.x = flights_[part].rows, .map = kept.map, .rows = kept.x});
    return {.x = kept.x, .y = rows.y ? c.scratch.allocate("experts.y", c.types.act, kept.x.shape) : Tensor{}};
  }

  void return_z(Context& c, const ForwardRows& rows, size_t part, const Tensor& z) override {
    if (!rows.z) return;
    const RowChunk& chunk = rows.layer.routing.exchange.chunks[part];
    const ExpertPart& kept = rows.layer.kept.parts[part];
    Flight& flight = flights_[part];
    c.ops(GatherRows{.from = z, .index = kept.arrival_of_packed, .via = kept.map.row_of_slot, .to = flight.pairs});
    flight.pairs_work = begin_journey(c, Traffic::specialization, OwnRows::received,
                                      chunk.packed_arriving(flight.pairs), chunk.packed_home(rows.z));
  }

  void return_y(Context& c, const ForwardRows& rows, size_t part, const Tensor& y) override {
    const RowChunk& chunk = rows.layer.routing.exchange.chunks[part];
    Flight& flight = flights_[part];
    c.ops(GatherRows{.from = y, .index = rows.layer.kept.parts[part].map.row_of_slot, .to = flight.rows});
    flight.rows_work =
        begin_journey(c, Traffic::combine, OwnRows::received, chunk.arriving(flight.rows), chunk.home(rows.y));
  }

  /// SP's gradient of z is written into z's own memory, which still holds the values of z when it is computed.
  void finish(Context& c, const ForwardRows& rows) override {
    const auto& [layer, pass, x, y, z] = rows;
    const Routing& r = layer.routing;
    const Tensor& gram = layer.grams.z;
    wait_for_all(c, "combine");
    if (pass == ForwardPass::first && gram) c.ops(SlotGram{.rows = z, .row_of_slot = r.packed_of_slot, .gram = gram});
    if (layer.kept.dz_pairs)
      c.ops(SpecializationBackward{.z = z,
                                   .row_of_slot = r.packed_of_slot,
                                   .gram = gram,
                                   .sp_scale = layer.loss->scale[Term::sp].gradient,
                                   .drows = layer.kept.dz_pairs});
  }

  // ---- backward

  /// To the experts travel: the gradient of their outputs (without O: that of the weighted sum), the routing weights
  /// (without O) and SP's gradient. The gradient of x comes back into the memory of what was sent.
  void begin(Context& c, BackwardRows& rows) override {
    const Routing& r = rows.layer.routing;
    const Tensor& pairs = rows.layer.kept.dz_pairs;
    c.grid.progress().now("dispatch of gradients");
    rows.dx = rows.dy;
    gates_home_ = dgates_home_ = {};
    if (rows.dgates) {
      const int64_t slots = r.gates.elements();
      gates_home_ = c.scratch.allocate("experts.gates (home)", c.types.acc, {slots, 1});
      dgates_home_ = c.scratch.allocate("experts.dgates (home)", c.types.acc, {slots, 1});
      c.ops(GatherRows{.from = r.gates.view({slots, 1}), .index = r.map.slot_of_row, .to = gates_home_});
    }
    flights_.assign(r.exchange.chunks.size(), Flight{});
    for (size_t i = 0; i < flights_.size(); ++i) {
      const RowChunk& chunk = r.exchange.chunks[i];
      Flight& flight = flights_[i];
      flight.rows = c.scratch.allocate("experts.arrivals", c.types.act, {chunk.arrivals, c.model.hidden_size});
      flight.rows_work =
          begin_journey(c, Traffic::dispatch, OwnRows::sent, chunk.home(rows.dy), chunk.arriving(flight.rows));
      if (gates_home_) {
        flight.gates = c.scratch.allocate("experts.gates", c.types.acc, {chunk.arrivals, 1});
        flight.dgates = c.scratch.allocate("experts.dgates", c.types.acc, {chunk.arrivals, 1});
        flight.gates_work =
            begin_journey(c, Traffic::dispatch, OwnRows::sent, chunk.home(gates_home_), chunk.arriving(flight.gates));
      }
      if (pairs) {
        flight.pairs = c.scratch.allocate("experts.dz (pairs)", c.types.act, {chunk.packed_arrivals, pairs.dim(1)});
        flight.pairs_work = begin_journey(c, Traffic::specialization, OwnRows::sent, chunk.packed_home(pairs),
                                          chunk.packed_arriving(flight.pairs));
      }
    }
  }

  PartGradients receive(Context& c, const BackwardRows& rows, size_t part) override {
    const ExpertPart& kept = rows.layer.kept.parts[part];
    Flight& flight = flights_[part];
    wait(c, flight);
    const Tensor dy = c.scratch.allocate("experts.drows", c.types.act, kept.x.shape);
    const Tensor dx = c.scratch.allocate("experts.dx", c.types.act, kept.x.shape);
    c.ops(DispatchRows{.x = flight.rows, .map = kept.map, .rows = dy});
    return {.dy = dy,
            .dx = dx,
            .swiglu = {.map = kept.map,
                       .gates = flight.gates,
                       .dz_pairs = flight.pairs,
                       .pair_of_slot = flight.pairs ? kept.packed_of_arrival.view({kept.slots, 1}) : Tensor{},
                       .dgates = flight.dgates}};
  }

  void return_dx(Context& c, const BackwardRows& rows, size_t part, const PartGradients& gradients) override {
    const RowChunk& chunk = rows.layer.routing.exchange.chunks[part];
    Flight& flight = flights_[part];
    c.ops(GatherRows{.from = gradients.dx, .index = rows.layer.kept.parts[part].map.row_of_slot, .to = flight.rows});
    flight.rows_work =
        begin_journey(c, Traffic::combine, OwnRows::received, chunk.arriving(flight.rows), chunk.home(rows.dx));
    if (dgates_home_)
      flight.gates_work = begin_journey(c, Traffic::combine, OwnRows::received, chunk.arriving(flight.dgates),
                                        chunk.home(dgates_home_));
  }

  Tensor x_again(Context&, const ExpertLayer& layer, size_t part, const Tensor&) override {
    return layer.kept.parts[part].x;
  }

  void finish(Context& c, const BackwardRows& rows) override {
    wait_for_all(c, "combine of gradients");
    if (!dgates_home_) return;
    const int64_t slots = dgates_home_.dim(0);
    c.ops(GatherRows{
        .from = dgates_home_, .index = rows.layer.routing.map.row_of_slot, .to = rows.dgates.view({slots, 1})});
  }

 private:
  using Work = Communicator::Work;

  void begin_counts(Context& c, const Routing& r) {
    Communicator& group = c.grid.experts();
    const int64_t local = c.moe.num_experts / group.size();
    RankRows sent{r.counts[0], {}, {}}, arriving{r.counts[1], {}, {}};
    for (int64_t p = 0; p < group.size(); ++p) {
      sent.first.push_back(p * local);
      sent.count.push_back(local);
    }
    arriving.first = sent.first;
    arriving.count = sent.count;
    counts_work_ = group.begin_all_to_all(Traffic::counts, OwnRows::sent, sent, arriving);
  }

  /// The copy stream waits for the counts alone, and the host for the copy stream.
  void read_counts(Context& c, const Routing& r, std::vector<int32_t>& counts) {
    counts_there_->record(Stream::communication);
    counts_there_->hold(Stream::copy);
    c.ops.device().enqueue_download(r.counts, counts_on_host_.data(), Stream::copy);
    counts_copied_->record(Stream::copy);
    counts_copied_->wait();
    std::copy_n(static_cast<const int32_t*>(counts_on_host_.data()), counts.size(), counts.begin());
  }

  /// What belongs to one chunk while its rows travel.
  struct Flight {
    Tensor rows;           ///< [A, D] act, as they arrive and as they leave
    Tensor pairs;          ///< [S, F] act: z on its way home, or SP's gradient coming
    Tensor gates, dgates;  ///< [A, 1] acc
    Work rows_work, pairs_work, gates_work;
  };

  /// Sorts the rows that arrive by expert. Each is a token with one slot.
  static void sort_arrivals(Context& c, const Routing& r, const ExpertPart& part) {
    const Arena::Scope scope(c.scratch);
    const int64_t ranks = c.grid.experts().size(), local = c.moe.num_experts / ranks;
    const Tensor all = r.counts[1].view({ranks, local, 2});
    Tensor counts = all;
    if (part.experts != local) {
      counts = c.scratch.allocate("experts.counts", DType::i32, {ranks, part.experts, 2});
      for (int64_t p = 0; p < ranks; ++p) c.ops(Copy{.from = part.of(all[p]), .to = counts[p]});
    }
    c.ops(ArrivalMap{.counts = counts,
                     .experts = part.expert_of_arrival,
                     .packed_of_arrival = part.packed_of_arrival,
                     .arrival_of_packed = part.arrival_of_packed});
    c.ops(SortSlots{.selected = part.expert_of_arrival, .alignment = c.ops.device().row_alignment(), .map = part.map});
  }

  /// Begins a journey. With overlap off it also waits for its end.
  static Work begin_journey(Context& c, Traffic kind, OwnRows own, const RankRows& send, const RankRows& receive) {
    Work work = c.grid.experts().begin_all_to_all(kind, own, send, receive);
    if (!c.parallel.overlap) c.grid.experts().wait(work);
    return work;
  }

  static void wait(Context& c, Flight& flight) {
    for (Work* work : {&flight.rows_work, &flight.pairs_work, &flight.gates_work}) c.grid.experts().wait(*work);
  }

  void wait_for_all(Context& c, const char* what) {
    c.grid.progress().now(what);
    for (Flight& flight : flights_) wait(c, flight);
  }

  DeviceMemory counts_on_host_;  ///< [2, E, 2] i32, staging
  std::unique_ptr<Event> counts_there_, counts_copied_;
  Work counts_work_;                 ///< of the layer in progress
  std::vector<Flight> flights_;      ///< of the pass in progress, by part
  Tensor gates_home_, dgates_home_;  ///< [home rows, 1] acc, of the backward pass in progress
};
}  // namespace

std::unique_ptr<Dispatcher> make_spread_dispatcher(Device& device, int64_t experts) {
  return std::make_unique<SpreadDispatcher>(device, experts);
}

}  // namespace strand
