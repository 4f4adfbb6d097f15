#include "kernels/plan/plan_ops.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace strand {

double PlanCounts::total_flops() const {
  double sum = 0;
  for (double f : flops) sum += f;
  return sum;
}

double PlanCounts::total_bytes() const {
  double sum = 0;
  for (double b : bytes) sum += b;
  return sum;
}

std::unique_ptr<Ops> PlanDevice::make_ops() {
  return std::make_unique<PlanOps>(*this);
}

void* PlanDevice::allocate(MemoryKind kind, size_t bytes) {
  if (kind == MemoryKind::staging) return std::malloc(std::max<size_t>(bytes, 1));  // the host writes there
  void* address = reinterpret_cast<void*>((uintptr_t{1} << 61) + allocated_);
  allocated_ += (bytes + 63) / 64 * 64;
  return address;
}

void PlanDevice::deallocate(MemoryKind kind, void* memory) noexcept {
  if (kind == MemoryKind::staging) std::free(memory);
}

void PlanDevice::download(const Tensor& device, void* host) {
  std::memset(host, 0, device.bytes());
}

namespace {
class PlannedEvent final : public Event {
 public:
  void record(Stream) override {}
  void hold(Stream) override {}
  bool happened() const override { return true; }
  void wait() override {}
  double seconds_since(const Event&) const override { return 0; }
};
}  // namespace

std::unique_ptr<Event> PlanDevice::make_event() {
  return std::make_unique<PlannedEvent>();
}

void PlanOps::book(OpFamily family, double flops, std::initializer_list<Tensor> tensors) {
  if (family == OpFamily::dense_gemm) family = dense_gemm_as_;
  const int i = static_cast<int>(family);
  counts_.flops[i] += flops;
  for (const Tensor& t : tensors) counts_.bytes[i] += static_cast<double>(t.bytes());
  ++counts_.calls[i];
}

namespace {
/// 2 m n k
double product(int64_t m, int64_t n, int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

/// One S x S x `width` product of every head, causal half.
double attention_product(const HeadLayout& l, int64_t width) {
  return static_cast<double>(l.sequences * l.heads) * product(l.tokens, l.tokens, width) / 2;
}
}  // namespace

void PlanOps::count(const Linear& o) {
  book(OpFamily::dense_gemm, product(o.x.dim(0), o.weight.dim(0), o.weight.dim(1)), {o.x, o.weight, o.y});
}
void PlanOps::count(const LinearBackwardInput& o) {
  book(OpFamily::dense_gemm, product(o.dy.dim(0), o.weight.dim(0), o.weight.dim(1)), {o.dy, o.weight, o.dx});
}
void PlanOps::count(const LinearBackwardWeight& o) {
  book(OpFamily::dense_gemm, product(o.dy.dim(0), o.dy.dim(1), o.x.dim(1)), {o.dy, o.x, o.dweight, o.dweight});
}
void PlanOps::count(const GroupedLinear& o) {
  book(OpFamily::expert_gemm, product(o.slots, o.weight.dim(1), o.weight.dim(2)), {o.x, o.weight, o.y});
}
void PlanOps::count(const GroupedLinearBackwardInput& o) {
  book(OpFamily::expert_gemm, product(o.slots, o.weight.dim(1), o.weight.dim(2)), {o.dy, o.weight, o.dx});
}
void PlanOps::count(const GroupedLinearBackwardWeight& o) {
  book(OpFamily::expert_gemm, product(o.slots, o.dweight.dim(1), o.dweight.dim(2)), {o.dy, o.x, o.dweight, o.dweight});
}
void PlanOps::count(const AddRmsNorm& o) {
  book(OpFamily::norm, 0, {o.residual, o.branch, o.sum, o.y});
}
void PlanOps::count(const RmsNormBackward& o) {
  book(OpFamily::norm, 0, {o.dy, o.x, o.dresidual, o.dresidual, o.dresidual_act});
}
void PlanOps::count(const SplitHeads& o) {
  book(OpFamily::attention, 0, {o.qkv, o.q, o.k, o.v});
}
void PlanOps::count(const SplitHeadsBackward& o) {
  book(OpFamily::attention, 0, {o.dq, o.dk, o.dv, o.qkv, o.dqkv});
}
void PlanOps::count(const Attention& o) {
  const HeadLayout& l = o.layout;
  book(OpFamily::attention, attention_product(l, l.head_dim + l.value_width()), {o.q, o.k, o.v, o.out, o.lse});
}
void PlanOps::count(const AttentionBackward& o) {
  const HeadLayout& l = o.layout;
  book(OpFamily::attention, attention_product(l, 3 * l.head_dim + 2 * l.value_width()),
       {o.q, o.k, o.v, o.out, o.dout, o.lse, o.delta, o.dq, o.dk, o.dv});
}
void PlanOps::count(const CacheAppend& o) {
  book(OpFamily::attention, 0, {o.k, o.k, o.v, o.v});
}
void PlanOps::count(const CacheAttention& o) {
  const HeadLayout& l = o.layout;
  book(OpFamily::attention, product(l.sequences * l.tokens * l.heads, o.keys.dim(2), l.head_dim + l.value_width()),
       {o.q, o.keys, o.values, o.out});
}
void PlanOps::count(const LatentNorm& o) {
  book(OpFamily::norm, 0, {o.y, o.y});
}
void PlanOps::count(const LatentNormBackward& o) {
  // dy, which may have another type than the columns of x and dx.
  const Tensor columns{o.x.data, o.x.dtype, o.dy.shape};
  book(OpFamily::norm, 0, {o.dy, columns, columns});
}
void PlanOps::count(const SplitLatentHeads& o) {
  book(OpFamily::attention, 0, {o.q, o.keys_values, o.q, o.k, o.v});
}
void PlanOps::count(const SplitLatentHeadsBackward& o) {
  book(OpFamily::attention, 0, {o.dq, o.dk, o.dv, o.dq, o.dkeys_values});
}
void PlanOps::count(const AbsorbKeys& o) {
  const LatentLayout& l = o.layout;
  book(OpFamily::attention, product(l.rows() * l.heads, l.nope_dim, l.latent), {o.queries, o.weight, o.absorbed});
}
void PlanOps::count(const ExpandValues& o) {
  const LatentLayout& l = o.layout;
  book(OpFamily::attention, product(l.rows() * l.heads, l.value_dim, l.latent), {o.found, o.weight, o.out});
}
void PlanOps::count(const LatentCacheHeads& o) {
  book(OpFamily::attention, 0, {o.row, o.q, o.row, o.q});
}
void PlanOps::count(const RouterLinear& o) {
  book(OpFamily::router, product(o.x.dim(0), o.x.dim(1), o.weight.dim(0)), {o.x, o.weight, o.logits});
}
void PlanOps::count(const RouterLinearBackward& o) {
  book(OpFamily::router, 2 * product(o.x.dim(0), o.x.dim(1), o.weight.dim(0)),
       {o.dlogits, o.x, o.weight, o.dx, o.dx, o.dweight, o.dweight});
}
void PlanOps::count(const Route& o) {
  book(OpFamily::router, 0, {o.logits, o.probs, o.selected, o.gates});
}
void PlanOps::count(const RoutingStatistics& o) {
  book(OpFamily::router, 0, {o.probs, o.selected, o.statistics});
}
void PlanOps::count(const RouterTerms& o) {
  const Tensor none;
  book(OpFamily::router, 0,
       {o.z ? o.logits : none, o.v || o.entropy ? o.probs : none, o.lb || o.v ? o.statistics : none});
}
void PlanOps::count(const RouterBackward& o) {
  book(OpFamily::router, 0, {o.logits, o.probs, o.selected, o.gates, o.dgates, o.dprobs, o.dlogits});
}
void PlanOps::count(const CouplingMasses& o) {
  book(OpFamily::router, 0, {o.probs, o.selected, o.top_experts});
}
void PlanOps::count(const CouplingTokenTerm& o) {
  book(OpFamily::router, 0, {o.lower_source_mass, o.upper_top_mass});
}
void PlanOps::count(const CouplingJoint& o) {
  book(OpFamily::router, product(o.lower_probs.dim(0), o.lower_probs.dim(1), o.upper_probs.dim(1)),
       {o.lower_probs, o.upper_probs, o.joint});
}
void PlanOps::count(const CouplingSelect& o) {
  book(OpFamily::router, 0, {o.joint, o.mask});
}
void PlanOps::count(const CouplingJointBackward& o) {
  book(OpFamily::router, product(o.lower_probs.dim(0), o.lower_probs.dim(1), o.upper_probs.dim(1)),
       {o.lower_probs, o.upper_probs, o.mask, o.dprobs, o.dprobs});
}
void PlanOps::count(const RouterBiasUpdate& o) {
  book(OpFamily::router, 0, {o.step_counts, o.bias, o.bias});
}
void PlanOps::count(const SortSlots& o) {
  book(OpFamily::sort, 0, {o.selected, o.map.row_of_slot, o.map.slot_of_row, o.map.offsets});
}
void PlanOps::count(const DispatchRows& o) {
  book(OpFamily::combine, 0, {o.x, o.map.slot_of_row, o.rows});
}
void PlanOps::count(const Swiglu& o) {
  book(OpFamily::swiglu, 0, {o.gate_up, o.z, o.gram});
}
void PlanOps::count(const SwigluBackward& o) {
  book(OpFamily::swiglu, 0, {o.gate_up, o.dz, o.gram, o.dz_pairs, o.pair_of_slot, o.weighted_z, o.dgate_up, o.dgates});
}
void PlanOps::count(const SpecializationTerm& o) {
  book(OpFamily::swiglu, 0, {o.gram});
}
void PlanOps::count(const CombineRows& o) {
  book(OpFamily::combine, 0, {o.rows, o.gates, o.out, o.gram});
}
void PlanOps::count(const OrthogonalityTerm& o) {
  book(OpFamily::combine, 0, {o.gram});
}
void PlanOps::count(const CombineBackward& o) {
  book(OpFamily::combine, 0, {o.dout, o.y, o.gates, o.gram, o.dy, o.dgates});
}
void PlanOps::count(const SortForExchange& o) {
  book(OpFamily::sort, 0, {o.selected, o.map.row_of_slot, o.map.slot_of_row, o.map.offsets, o.counts});
}
void PlanOps::count(const SampledSlots& o) {
  book(OpFamily::sort, 0, {o.counts, o.row_of_slot, o.packed_of_slot});
}
void PlanOps::count(const ArrivalMap& o) {
  book(OpFamily::sort, 0, {o.counts, o.experts, o.packed_of_arrival, o.arrival_of_packed});
}
void PlanOps::count(const GatherRows& o) {
  book(OpFamily::combine, 0, {o.from, o.index, o.via, o.to});
}
void PlanOps::count(const SlotGram& o) {
  book(OpFamily::combine, 0, {o.rows, o.row_of_slot, o.gram});
}
void PlanOps::count(const SpecializationBackward& o) {
  book(OpFamily::combine, 0, {o.z, o.row_of_slot, o.gram, o.drows});
}
void PlanOps::count(const CrossEntropy& o) {
  book(OpFamily::head_loss, 0, {o.logits, o.targets, o.dlogits});
}
void PlanOps::count(const Embedding& o) {
  book(OpFamily::other, 0, {o.tokens, o.x, o.x});
}
void PlanOps::count(const EmbeddingBackward& o) {
  book(OpFamily::other, 0, {o.tokens, o.dx, o.dx, o.dx});
}
void PlanOps::count(const SumOfSquares& o) {
  book(OpFamily::optimizer, 0, {o.x});
}
void PlanOps::count(const ClipGradient& o) {
  book(OpFamily::optimizer, 0, {o.terms, o.numbers});
}
void PlanOps::count(const AdamW& o) {
  book(OpFamily::optimizer, 0, {o.weight, o.weight, o.weight_act, o.gradient, o.m, o.m, o.v, o.v});
}
void PlanOps::count(const SumOfUpdates& o) {
  book(OpFamily::optimizer, 0, {o.weight, o.m, o.v});
}
void PlanOps::count(const Zero& o) {
  book(OpFamily::other, 0, {o.x});
}
void PlanOps::count(const Copy& o) {
  book(OpFamily::other, 0, {o.from, o.to});
}
void PlanOps::count(const Cast& o) {
  book(OpFamily::optimizer, 0, {o.from, o.to});
}

}  // namespace strand
