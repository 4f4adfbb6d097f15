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
};
}  // namespace

std::unique_ptr<Event> PlanDevice::make_event() {
  return std::make_unique<PlannedEvent>();
}

void PlanOps::count(OpFamily family, double flops, std::initializer_list<Tensor> tensors) {
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

/// One S x S x A product of every head, causal half.
double attention_product(const HeadLayout& l) {
  return static_cast<double>(l.sequences * l.heads) * product(l.tokens, l.tokens, l.head_dim) / 2;
}
}  // namespace

void PlanOps::run(const Linear& o) {
  count(OpFamily::dense_gemm, product(o.x.dim(0), o.weight.dim(0), o.weight.dim(1)), {o.x, o.weight, o.y});
}
void PlanOps::run(const LinearBackwardInput& o) {
  count(OpFamily::dense_gemm, product(o.dy.dim(0), o.weight.dim(0), o.weight.dim(1)), {o.dy, o.weight, o.dx});
}
void PlanOps::run(const LinearBackwardWeight& o) {
  count(OpFamily::dense_gemm, product(o.dy.dim(0), o.dy.dim(1), o.x.dim(1)), {o.dy, o.x, o.dweight, o.dweight});
}
void PlanOps::run(const GroupedLinear& o) {
  count(OpFamily::expert_gemm, product(o.slots, o.weight.dim(1), o.weight.dim(2)), {o.x, o.weight, o.y});
}
void PlanOps::run(const GroupedLinearBackwardInput& o) {
  count(OpFamily::expert_gemm, product(o.slots, o.weight.dim(1), o.weight.dim(2)), {o.dy, o.weight, o.dx});
}
void PlanOps::run(const GroupedLinearBackwardWeight& o) {
  count(OpFamily::expert_gemm, product(o.slots, o.dweight.dim(1), o.dweight.dim(2)), {o.dy, o.x, o.dweight, o.dweight});
}
void PlanOps::run(const AddRmsNorm& o) {
  count(OpFamily::norm, 0, {o.residual, o.branch, o.sum, o.y});
}
void PlanOps::run(const RmsNormBackward& o) {
  count(OpFamily::norm, 0, {o.dy, o.x, o.dresidual, o.dresidual, o.dresidual_act});
}
void PlanOps::run(const SplitHeads& o) {
  count(OpFamily::attention, 0, {o.qkv, o.q, o.k, o.v});
}
void PlanOps::run(const SplitHeadsBackward& o) {
  count(OpFamily::attention, 0, {o.dq, o.dk, o.dv, o.qkv, o.dqkv});
}
void PlanOps::run(const Attention& o) {
  count(OpFamily::attention, 2 * attention_product(o.layout), {o.q, o.k, o.v, o.out, o.lse});
}
void PlanOps::run(const AttentionBackward& o) {
  count(OpFamily::attention, 5 * attention_product(o.layout),
        {o.q, o.k, o.v, o.out, o.dout, o.lse, o.delta, o.dq, o.dk, o.dv});
}
void PlanOps::run(const CacheAppend& o) {
  count(OpFamily::attention, 0, {o.k, o.k, o.v, o.v});
}
void PlanOps::run(const CacheAttention& o) {
  const int64_t rows = o.layout.sequences * o.layout.tokens;
  count(OpFamily::attention, 2 * product(rows * o.layout.heads, o.keys.dim(2), o.layout.head_dim),
        {o.q, o.keys, o.values, o.out});
}
void PlanOps::run(const RouterLinear& o) {
  count(OpFamily::router, product(o.x.dim(0), o.x.dim(1), o.weight.dim(0)), {o.x, o.weight, o.logits});
}
void PlanOps::run(const RouterLinearBackward& o) {
  count(OpFamily::router, 2 * product(o.x.dim(0), o.x.dim(1), o.weight.dim(0)),
        {o.dlogits, o.x, o.weight, o.dx, o.dx, o.dweight, o.dweight});
}
void PlanOps::run(const Route& o) {
  count(OpFamily::router, 0, {o.logits, o.probs, o.selected, o.gates});
}
void PlanOps::run(const RoutingStatistics& o) {
  count(OpFamily::router, 0, {o.probs, o.selected, o.statistics});
}
void PlanOps::run(const RouterTerms& o) {
  const Tensor none;
  count(OpFamily::router, 0,
        {o.z ? o.logits : none, o.v || o.entropy ? o.probs : none, o.lb || o.v ? o.statistics : none});
}
void PlanOps::run(const RouterBackward& o) {
  count(OpFamily::router, 0, {o.logits, o.probs, o.selected, o.gates, o.dgates, o.dprobs, o.dlogits});
}
void PlanOps::run(const CouplingMasses& o) {
  count(OpFamily::router, 0, {o.probs, o.selected, o.top_experts});
}
void PlanOps::run(const CouplingTokenTerm& o) {
  count(OpFamily::router, 0, {o.lower_source_mass, o.upper_top_mass});
}
void PlanOps::run(const CouplingJoint& o) {
  count(OpFamily::router, product(o.lower_probs.dim(0), o.lower_probs.dim(1), o.upper_probs.dim(1)),
        {o.lower_probs, o.upper_probs, o.joint});
}
void PlanOps::run(const CouplingSelect& o) {
  count(OpFamily::router, 0, {o.joint, o.mask});
}
void PlanOps::run(const CouplingJointBackward& o) {
  count(OpFamily::router, product(o.lower_probs.dim(0), o.lower_probs.dim(1), o.upper_probs.dim(1)),
        {o.lower_probs, o.upper_probs, o.mask, o.dprobs, o.dprobs});
}
void PlanOps::run(const RouterBiasUpdate& o) {
  count(OpFamily::router, 0, {o.step_counts, o.bias, o.bias});
}
void PlanOps::run(const SortSlots& o) {
  count(OpFamily::sort, 0, {o.selected, o.map.row_of_slot, o.map.slot_of_row, o.map.offsets});
}
void PlanOps::run(const DispatchRows& o) {
  count(OpFamily::combine, 0, {o.x, o.map.slot_of_row, o.rows});
}
void PlanOps::run(const Swiglu& o) {
  count(OpFamily::swiglu, 0, {o.gate_up, o.z, o.gram});
}
void PlanOps::run(const SwigluBackward& o) {
  count(OpFamily::swiglu, 0, {o.gate_up, o.dz, o.gram, o.dz_pairs, o.pair_of_slot, o.weighted_z, o.dgate_up, o.dgates});
}
void PlanOps::run(const SpecializationTerm& o) {
  count(OpFamily::swiglu, 0, {o.gram});
}
void PlanOps::run(const CombineRows& o) {
  count(OpFamily::combine, 0, {o.rows, o.gates, o.out, o.gram});
}
void PlanOps::run(const OrthogonalityTerm& o) {
  count(OpFamily::combine, 0, {o.gram});
}
void PlanOps::run(const CombineBackward& o) {
  count(OpFamily::combine, 0, {o.dout, o.y, o.gates, o.gram, o.dy, o.dgates});
}
void PlanOps::run(const SortForExchange& o) {
  count(OpFamily::sort, 0, {o.selected, o.map.row_of_slot, o.map.slot_of_row, o.map.offsets, o.counts});
}
void PlanOps::run(const SampledSlots& o) {
  count(OpFamily::sort, 0, {o.counts, o.row_of_slot, o.packed_of_slot});
}
void PlanOps::run(const ArrivalMap& o) {
  count(OpFamily::sort, 0, {o.counts, o.experts, o.packed_of_arrival, o.arrival_of_packed});
}
void PlanOps::run(const GatherRows& o) {
  count(OpFamily::combine, 0, {o.from, o.index, o.via, o.to});
}
void PlanOps::run(const SlotGram& o) {
  count(OpFamily::combine, 0, {o.rows, o.row_of_slot, o.gram});
}
void PlanOps::run(const SpecializationBackward& o) {
  count(OpFamily::combine, 0, {o.z, o.row_of_slot, o.gram, o.drows});
}
void PlanOps::run(const CrossEntropy& o) {
  count(OpFamily::head_loss, 0, {o.logits, o.targets, o.dlogits});
}
void PlanOps::run(const Embedding& o) {
  count(OpFamily::other, 0, {o.tokens, o.x, o.x});
}
void PlanOps::run(const EmbeddingBackward& o) {
  count(OpFamily::other, 0, {o.tokens, o.dx, o.dx, o.dx});
}
void PlanOps::run(const SumOfSquares& o) {
  count(OpFamily::optimizer, 0, {o.x});
}
void PlanOps::run(const ClipGradient& o) {
  count(OpFamily::optimizer, 0, {o.terms, o.numbers});
}
void PlanOps::run(const AdamW& o) {
  count(OpFamily::optimizer, 0, {o.weight, o.weight, o.weight_act, o.gradient, o.m, o.m, o.v, o.v});
}
void PlanOps::run(const Zero& o) {
  count(OpFamily::other, 0, {o.x});
}
void PlanOps::run(const Copy& o) {
  count(OpFamily::other, 0, {o.from, o.to});
}
void PlanOps::run(const Cast& o) {
  count(OpFamily::optimizer, 0, {o.from, o.to});
}

}  // namespace strand
