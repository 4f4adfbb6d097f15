// Operations on expert rows, at small sizes: what must fail when a bug of expert_bugs.cpp is planted. Blocks of rows
// begin at multiples of 16, so that there is padding.
#include "kernels/expert_cases.h"

#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
constexpr int64_t alignment = 16;

void for_sizes(std::initializer_list<Size> all, const std::function<void(Stage&, const Size&)>& body) {
  for (const Size& n : all) {
    INFO("T " << n.tokens << " E " << n.experts << " K " << n.top_k << " width " << n.width);
    compare_all([&](Stage& s) { body(s, n); }, alignment);
  }
}

/// Gram matrices of rows that the case takes from nowhere else: those of normal numbers.
Tensor any_gram(Stage& s, const Size& n) {
  Values gram;
  for (int64_t t = 0; t < n.tokens; ++t)
    for (int64_t i = 0; i < n.top_k; ++i)
      for (int64_t j = 0; j < n.top_k; ++j)
        gram.push_back(i == j ? 2.0 : 0.125 * static_cast<double>((t + i * j + i + j) % 5 - 2));
  return s.acc_of({n.tokens, n.top_k, n.top_k}, gram);
}
}  // namespace

// The second size takes more than one block of the sort.
TEST_CASE("sorting", "[case]") {
  for_sizes({{67, 5, 2, 1}, {1100, 3, 2, 1}}, [](Stage& s, const Size& n) {
    const RowMap map{.row_of_slot = s.ids_out({n.tokens, n.top_k}),
                     .slot_of_row = s.ids_out({capacity(s, n)}),
                     .offsets = s.ids_out({n.experts + 1})};
    s.run(SortSlots{.selected = s.ids_of({n.tokens, n.top_k}, selection(n)), .alignment = s.alignment(), .map = map});
    s.report("offsets", map.offsets);
    s.report("row_of_slot", map.row_of_slot);
  });
}

TEST_CASE("moving rows", "[case]") {
  for_sizes({{9, 4, 2, 33}, {5, 3, 2, 16}}, [](Stage& s, const Size& n) {
    const Sorted rows = sorted(s, n);
    const DispatchRows op{
        .x = s.act("x", {n.tokens, n.width}), .map = rows.map, .rows = s.act_out({rows.capacity, n.width})};
    s.run(op);
    s.report("rows", op.rows.rows(0, rows.used));
  });
}

TEST_CASE("experts forward", "[case]") {
  for (bool with_gram : {false, true}) {
    for_sizes({{7, 4, 3, 33}, {5, 3, 2, 48}}, [&](Stage& s, const Size& n) {
      const Sorted rows = sorted(s, n);
      Swiglu op{.gate_up = rows_input(s, "gate_up", rows, 2 * n.width),
                .map = rows.map,
                .z = s.act_out({rows.capacity, n.width})};
      if (with_gram) op.gram = s.acc_out({n.tokens, n.top_k, n.top_k});
      s.run(op);
      s.report("z", op.z.rows(0, rows.used));
      if (with_gram) s.report("gram", op.gram, {.terms = n.width, .roundings = 2});
    });
  }
}

// Without SP; with SP and few rows a token, which stand in registers; with SP and many, which stand in shared memory.
TEST_CASE("experts backward", "[case]") {
  for (double sp_scale : {0.0, 0.5}) {
    for_sizes({{5, 4, 3, 33}, {2, 18, 17, 40}}, [&](Stage& s, const Size& n) {
      const Sorted rows = sorted(s, n);
      SwigluBackward op{.gate_up = rows_input(s, "gate_up", rows, 2 * n.width),
                        .dz = rows_input(s, "dz", rows, n.width),
                        .map = rows.map,
                        .gates = s.acc("gates", {n.tokens, n.top_k}),
                        .sp_scale = sp_scale};
      if (sp_scale != 0) op.gram = any_gram(s, n);
      op.weighted_z = s.act_out({rows.capacity, n.width});
      op.dgate_up = s.act_out({rows.capacity, 2 * n.width});
      op.dgates = s.acc_out({n.tokens, n.top_k});
      s.run(op);
      s.report("weighted_z", op.weighted_z.rows(0, rows.used), {.roundings = 1});
      s.report("dgate_up", op.dgate_up.rows(0, rows.used), {.terms = n.top_k, .roundings = 1});
      s.report("dgates", op.dgates, {.terms = n.width, .roundings = 2});
    });
  }
}

TEST_CASE("combining", "[case]") {
  for_sizes({{5, 4, 3, 33}, {5, 3, 2, 16}}, [](Stage& s, const Size& n) {
    const Sorted rows = sorted(s, n);
    const CombineRows op{.rows = rows_input(s, "rows", rows, n.width),
                         .map = rows.map,
                         .gates = s.acc("gates", {n.tokens, n.top_k}),
                         .write = Write::overwrite,
                         .out = s.acc_out({n.tokens, n.width}),
                         .gram = s.acc_out({n.tokens, n.top_k, n.top_k})};
    s.run(op);
    s.report("out", op.out, {.terms = n.top_k});
    s.report("gram", op.gram, {.terms = n.width});
    const CombineBackward backward{.dout = s.act("dout", {n.tokens, n.width}),
                                   .y = op.rows,
                                   .map = rows.map,
                                   .gates = op.gates,
                                   .gram = any_gram(s, n),
                                   .o_scale = 0.3,
                                   .dy = s.act_out({rows.capacity, n.width}),
                                   .dgates = s.acc_out({n.tokens, n.top_k})};
    s.run(backward);
    s.report("dy", backward.dy.rows(0, rows.used), {.terms = n.top_k * n.top_k});
    s.report("dgates", backward.dgates, {.terms = n.width});
  });
}

TEST_CASE("specialization", "[case]") {
  const Size n{20, 1, 3, 37};
  compare_all([&](Stage& s) {
    const Tensor sp = s.scalar(), gram = any_gram(s, n), of_rows = s.acc_out(gram.shape);
    s.run(SpecializationTerm{.gram = gram, .sample = sample_of(s, 0.4), .sp_scale = 0.1, .sp = sp});
    s.report("sp", sp, {.terms = 9});
    Ids row_of_slot;  // every third token is elsewhere
    for (int32_t slot = 0; slot < 60; ++slot) row_of_slot.push_back(slot / 3 % 3 == 0 ? -1 : slot % 40);
    s.run(
        SlotGram{.rows = s.act("rows", {40, n.width}), .row_of_slot = s.ids_of({20, 3}, row_of_slot), .gram = of_rows});
    s.report("gram", of_rows, {.terms = n.width});
  });
}

TEST_CASE("exchange", "[case]") {
  compare_all([](Stage& s) {
    const Size n{23, 6, 3, 1};
    const Home home = sort_at_home(s, n, selection(n), sample_of(s, 0.4));
    s.report("packed_of_slot", home.packed_of_slot);
    const Arrivals some = map_arrivals(s, {2, 3, 2}, {2, 1, 0, 0, 1, 0, 0, 2, 0, 0, 3, 1});
    s.report("experts", some.experts);
    s.report("packed_of_arrival", some.packed_of_arrival);
    s.report("arrival_of_packed", some.arrival_of_packed);
  });
}
