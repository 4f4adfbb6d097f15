// What the plan backend counts, against numbers worked out by hand.
#include "kernels/plan/plan_ops.h"
#include "tests/catch.h"

using namespace strand;

namespace {
double flops(const PlanOps& ops, OpFamily family) {
  return ops.counts().flops[static_cast<int>(family)];
}
double bytes(const PlanOps& ops, OpFamily family) {
  return ops.counts().bytes[static_cast<int>(family)];
}
int64_t calls(const PlanOps& ops, OpFamily family) {
  return ops.counts().calls[static_cast<int>(family)];
}

Tensor tensor(PlanOps& ops, DType type, const Shape& shape) {
  return {ops.device().allocate(MemoryKind::device, static_cast<size_t>(shape.elements()) * size_of(type)), type,
          shape};
}
}  // namespace

TEST_CASE("plan: a product is 2 m n k, and its bytes are those of its tensors") {
  PlanDevice device({.row_alignment = 16});
  PlanOps ops(device);
  CHECK(ops.device().row_alignment() == 16);
  const Linear op{.x = tensor(ops, DType::bf16, {10, 3}),
                  .weight = tensor(ops, DType::bf16, {5, 3}),
                  .y = tensor(ops, DType::f32, {10, 5})};
  ops(op);
  CHECK(flops(ops, OpFamily::dense_gemm) == 2 * 10 * 3 * 5);
  CHECK(bytes(ops, OpFamily::dense_gemm) == 2 * 10 * 3 + 2 * 5 * 3 + 4 * 10 * 5);
  CHECK(calls(ops, OpFamily::dense_gemm) == 1);

  SECTION("in a scope, on another family") {
    {
      const FamilyScope head(ops, OpFamily::head_loss);
      ops(op);
    }
    ops(op);
    CHECK(calls(ops, OpFamily::dense_gemm) == 2);
    CHECK(flops(ops, OpFamily::head_loss) == 300);
    CHECK(ops.counts().total_flops() == 900);
  }
  SECTION("reset") {
    ops.reset_counts();
    CHECK(ops.counts().total_flops() == 0);
    CHECK(ops.counts().total_bytes() == 0);
    CHECK(calls(ops, OpFamily::dense_gemm) == 0);
  }
}

TEST_CASE("plan: expert products count slots, not padding; weight gradients are read and written") {
  PlanDevice device({.row_alignment = 16});
  PlanOps ops(device);
  const int64_t R = 64, slots = 20, E = 3, I = 8, O = 4;
  const GroupedLinearBackwardWeight op{.dy = tensor(ops, DType::f32, {R, O}),
                                       .x = tensor(ops, DType::f32, {R, I}),
                                       .offsets = tensor(ops, DType::i32, {E + 1}),
                                       .dweight = tensor(ops, DType::f32, {E, O, I}),
                                       .slots = slots};
  ops(op);
  CHECK(flops(ops, OpFamily::expert_gemm) == 2 * slots * I * O);
  CHECK(bytes(ops, OpFamily::expert_gemm) == Approx(4 * (R * O + R * I + 2 * E * O * I)).margin(4 * (E + 1)));
}

// S = 8: S²/2 = 32 pairs a head; two products of A = 4: 2·2·32·4 = 512 FLOPs a head, times H·B = 6. Backward: five
// products.
TEST_CASE("plan: attention counts the causal half, grouped heads by query heads") {
  PlanDevice device({.row_alignment = 1});
  PlanOps ops(device);
  const HeadLayout l{.sequences = 2, .tokens = 8, .heads = 3, .kv_heads = 1, .head_dim = 4, .rotary_dim = 4};
  const Tensor q = tensor(ops, DType::f32, {2, 3, 8, 4}), k = tensor(ops, DType::f32, {2, 1, 8, 4});
  const Tensor out = tensor(ops, DType::f32, {16, 12}), lse = tensor(ops, DType::f32, {2, 3, 8});
  ops(Attention{.layout = l, .q = q, .k = k, .v = k, .out = out, .lse = lse});
  CHECK(flops(ops, OpFamily::attention) == 512 * 6);
  CHECK(bytes(ops, OpFamily::attention) == 4 * (2 * 192 + 2 * 64 + 48));
  ops.reset_counts();
  ops(AttentionBackward{.layout = l,
                        .q = q,
                        .k = k,
                        .v = k,
                        .out = out,
                        .lse = lse,
                        .dout = out,
                        .delta = lse,
                        .dq = q,
                        .dk = k,
                        .dv = k});
  CHECK(flops(ops, OpFamily::attention) == 2.5 * 512 * 6);
}

TEST_CASE("plan: allocations get distinct aligned addresses; arguments are checked as everywhere") {
  PlanDevice device({.row_alignment = 1});
  PlanOps ops(device);
  void* first = ops.device().allocate(MemoryKind::device, 1000);
  void* second = ops.device().allocate(MemoryKind::device, 64);
  CHECK(reinterpret_cast<uintptr_t>(second) >= reinterpret_cast<uintptr_t>(first) + 1000);
  CHECK(reinterpret_cast<uintptr_t>(second) % 64 == 0);
  CHECK_THROWS(ops(SumOfSquares{.x = Tensor{first, DType::f32, {250}}}));
}

TEST_CASE("plan: rows gathered for another rank count as stored, with the indices that find them") {
  PlanDevice device({.row_alignment = 1});
  PlanOps ops(device);
  const GatherRows op{.from = tensor(ops, DType::bf16, {10, 3}),
                      .index = tensor(ops, DType::i32, {4, 2}),
                      .via = tensor(ops, DType::i32, {9}),
                      .to = tensor(ops, DType::bf16, {8, 3})};
  ops(op);
  CHECK(bytes(ops, OpFamily::combine) == 2 * 30 + 4 * 8 + 4 * 9 + 2 * 24);
  CHECK(calls(ops, OpFamily::combine) == 1);
}
