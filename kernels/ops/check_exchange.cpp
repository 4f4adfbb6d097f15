#include "kernels/ops/check.h"
#include "kernels/ops/exchange.h"

namespace strand {

namespace {
/// An i32 tensor of whatever shape.
void check_ids(const OpCheck& c, const char* field, const Tensor& ids) {
  c.tensor(field, ids, DType::i32, ids.shape);
}

/// [T, K] i32 with at least one choice a token.
void check_slots(const OpCheck& c, const char* field, const Tensor& slots) {
  c.rank(field, slots, 2);
  check_ids(c, field, slots);
  c.holds(slots.dim(1) >= 1, "a token has no slots");
}

/// [experts, 2] i32
void check_counts(const OpCheck& c, const Tensor& counts) {
  c.rank("counts", counts, 2);
  c.tensor("counts", counts, DType::i32, {counts.dim(0), 2});
  c.holds(counts.dim(0) >= 1, "there are no experts");
}
}  // namespace

void SortForExchange::check() const {
  const OpCheck c("SortForExchange");
  check_slots(c, "selected", selected);
  check_counts(c, counts);
  c.sample(sample);
  c.tensor("map.row_of_slot", map.row_of_slot, DType::i32, selected.shape);
  c.tensor("map.slot_of_row", map.slot_of_row, DType::i32, {selected.elements()});
  c.tensor("map.offsets", map.offsets, DType::i32, {counts.dim(0) + 1});
}

void SampledSlots::check() const {
  const OpCheck c("SampledSlots");
  check_counts(c, counts);
  check_slots(c, "row_of_slot", row_of_slot);
  c.tensor("packed_of_slot", packed_of_slot, DType::i32, row_of_slot.shape);
}

void ArrivalMap::check() const {
  const OpCheck c("ArrivalMap");
  c.rank("counts", counts, 3);
  c.tensor("counts", counts, DType::i32, {counts.dim(0), counts.dim(1), 2});
  c.rank("experts", experts, 2);
  c.tensor("experts", experts, DType::i32, {experts.dim(0), 1});
  c.tensor("packed_of_arrival", packed_of_arrival, DType::i32, {experts.dim(0)});
  c.rank("arrival_of_packed", arrival_of_packed, 1);
  check_ids(c, "arrival_of_packed", arrival_of_packed);
  c.holds(arrival_of_packed.dim(0) <= experts.dim(0), "more rows of sampled tokens than arrivals");
}

void GatherRows::check() const {
  const OpCheck c("GatherRows");
  c.act("from", from);
  c.rank("from", from, 2);
  check_ids(c, "index", index);
  if (via) check_ids(c, "via", via);
  c.holds(from.dim(1) >= 1, "rows have no width");
  c.tensor("to", to, from.dtype, {index.elements(), from.dim(1)});
}

void SlotGram::check() const {
  const OpCheck c("SlotGram");
  const DType act = c.act("rows", rows);
  c.rank("rows", rows, 2);
  check_slots(c, "row_of_slot", row_of_slot);
  c.tensor("gram", gram, acc_of(act), gram_shape(row_of_slot));
}

void SpecializationBackward::check() const {
  const OpCheck c("SpecializationBackward");
  const DType act = c.act("z", z);
  c.rank("z", z, 2);
  check_slots(c, "row_of_slot", row_of_slot);
  c.tensor("gram", gram, acc_of(act), gram_shape(row_of_slot));
  c.tensor("drows", drows, act, z.shape);
}

}  // namespace strand
