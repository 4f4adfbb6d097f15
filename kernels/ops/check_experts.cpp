#include "kernels/ops/check.h"
#include "kernels/ops/experts.h"

namespace strand {

namespace {
/// A map's three tensors fit each other and `rows` rows, which are enough for every slot.
void check_map(const OpCheck& c, const RowMap& map, int64_t rows) {
  c.rank("map.row_of_slot", map.row_of_slot, 2);
  c.tensor("map.row_of_slot", map.row_of_slot, DType::i32, map.row_of_slot.shape);
  c.tensor("map.slot_of_row", map.slot_of_row, DType::i32, {rows});
  c.rank("map.offsets", map.offsets, 1);
  c.tensor("map.offsets", map.offsets, DType::i32, map.offsets.shape);
  c.holds(map.offsets.dim(0) >= 2, "there are no experts");
  c.holds(rows >= map.row_of_slot.elements(), "too few rows for every slot");
}

void check_gram(const OpCheck& c, const Tensor& gram) {
  c.acc("gram", gram);
  c.rank("gram", gram, 3);
  c.holds(gram.dim(1) == gram.dim(2), "gram is not square");
}
}  // namespace

void SortSlots::check() const {
  const OpCheck c("SortSlots");
  c.rank("selected", selected, 2);
  c.tensor("selected", selected, DType::i32, selected.shape);
  c.rank("map.slot_of_row", map.slot_of_row, 1);
  check_map(c, map, map.slot_of_row.dim(0));
  c.tensor("map.row_of_slot", map.row_of_slot, DType::i32, selected.shape);
  const int64_t experts = map.offsets.dim(0) - 1;
  c.holds(experts >= 1 && alignment >= 1, "experts and alignment must be positive");
  c.holds(map.slot_of_row.dim(0) >= selected.elements() + experts * (alignment - 1), "too few rows for every slot");
}

void DispatchRows::check() const {
  const OpCheck c("DispatchRows");
  const DType act = c.act("x", x);
  c.rank("x", x, 2);
  c.rank("rows", rows, 2);
  c.tensor("rows", rows, act, {rows.dim(0), x.dim(1)});
  check_map(c, map, rows.dim(0));
  c.holds(map.row_of_slot.dim(0) == x.dim(0), "x and map differ in tokens");
}

void Swiglu::check() const {
  const OpCheck c("Swiglu");
  const DType act = c.act("z", z);
  c.rank("z", z, 2);
  c.tensor("gate_up", gate_up, act, {z.dim(0), 2 * z.dim(1)});
  if (!map) return c.absent("gram", gram);
  check_map(c, map, z.dim(0));
  c.optional("gram", gram, acc_of(act), gram_shape(map.row_of_slot));
}

void SpecializationTerm::check() const {
  const OpCheck c("SpecializationTerm");
  check_gram(c, gram);
  c.sample(sample);
  c.tensor("sp", sp, DType::f64, {1});
}

void SwigluBackward::check() const {
  const OpCheck c("SwigluBackward");
  const DType act = c.act("dz", dz), acc = acc_of(act);
  c.rank("dz", dz, 2);
  const int64_t r = dz.dim(0), f = dz.dim(1);
  c.tensor("gate_up", gate_up, act, {r, 2 * f});
  c.tensor("weighted_z", weighted_z, act, {r, f});
  c.tensor("dgate_up", dgate_up, act, {r, 2 * f});
  c.holds(bool(gates) == bool(dgates), "gates and dgates come together");
  c.holds(bool(dz_pairs) == bool(pair_of_slot), "dz_pairs and pair_of_slot come together");
  if (!map) {
    c.absent("gates", gates);
    c.absent("dz_pairs", dz_pairs);
    c.holds(sp_scale == 0, "SP needs a map");
    return;
  }
  check_map(c, map, r);
  c.optional("gates", gates, acc, map.row_of_slot.shape);
  c.optional("dgates", dgates, acc, map.row_of_slot.shape);
  c.sample(sample);
  if (sp_scale != 0) c.tensor("gram", gram, acc, gram_shape(map.row_of_slot));
  if (!dz_pairs) return;
  c.holds(sp_scale == 0, "SP is formed here or comes as dz_pairs, not both");
  c.rank("dz_pairs", dz_pairs, 2);
  c.tensor("dz_pairs", dz_pairs, act, {dz_pairs.dim(0), f});
  c.tensor("pair_of_slot", pair_of_slot, DType::i32, map.row_of_slot.shape);
}

void CombineRows::check() const {
  const OpCheck c("CombineRows");
  const DType acc = acc_of(c.act("rows", rows));
  c.rank("rows", rows, 2);
  check_map(c, map, rows.dim(0));
  c.optional("gates", gates, acc, map.row_of_slot.shape);
  c.tensor("out", out, acc, {map.row_of_slot.dim(0), rows.dim(1)});
  c.optional("gram", gram, acc, gram_shape(map.row_of_slot));
}

void OrthogonalityTerm::check() const {
  const OpCheck c("OrthogonalityTerm");
  check_gram(c, gram);
  c.tensor("o", o, DType::f64, {1});
}

void CombineBackward::check() const {
  const OpCheck c("CombineBackward");
  const DType act = c.act("y", y), acc = acc_of(act);
  c.rank("y", y, 2);
  check_map(c, map, y.dim(0));
  c.tensor("dout", dout, act, {map.row_of_slot.dim(0), y.dim(1)});
  c.tensor("gates", gates, acc, map.row_of_slot.shape);
  c.tensor("gram", gram, acc, gram_shape(map.row_of_slot));
  c.tensor("dy", dy, act, y.shape);
  c.tensor("dgates", dgates, acc, map.row_of_slot.shape);
}

}  // namespace strand
