// Products by the backend's own kernels and by cuBLAS: what must fail when a bug in them, or in the order in which the
// host asks for them, is planted.
#include <algorithm>
#include <limits>

#include "kernels/cuda/backend.h"
#include "kernels/harness.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// Experts with 17, 0 and 5 rows; what lies behind them is NaN and stays it.
void grouped_products(Stage& s) {
  constexpr int64_t in = 40, out = 24, capacity = 25;
  const Tensor offsets = s.ids_of({4}, {0, 17, 17, 22}), weight = s.act("w", {3, out, in});
  const auto rows = [&](const char* name, int64_t width) {
    Values values = s.read(s.act(name, {capacity, width}));
    std::fill(values.begin() + 22 * width, values.end(), std::numeric_limits<double>::quiet_NaN());
    return s.act_of({capacity, width}, values);
  };
  const Tensor x = rows("x", in), dy = rows("dy", out);
  const Tensor y = s.act_out({capacity, out}), dx = s.act_out({capacity, in}), dw = s.acc("dw before", weight.shape);
  s.run(GroupedLinear{.x = x, .weight = weight, .offsets = offsets, .y = y});
  s.run(GroupedLinearBackwardInput{.dy = dy, .weight = weight, .offsets = offsets, .dx = dx});
  s.run(GroupedLinearBackwardWeight{.dy = dy, .x = x, .offsets = offsets, .dweight = dw});
  s.report("y", y, {.terms = in});
  s.report("dx", dx, {.terms = out});
  s.report("dw", dw, {.terms = 18});
}
}  // namespace

TEST_CASE("grouped products", "[case]") {
  compare_all(grouped_products);
}

TEST_CASE("grouped products by cuBLAS", "[case]") {
  // Not destroyed: an emulated stream must not outlive main().
  static Device& device = *make_cuda_device({.grouped_gemm = GroupedGemm::cublas}).release();
  static Ops* const ops = device.make_ops().release();
  for (DType act : {DType::f32, DType::bf16}) compare({"cublas", ops, act}, grouped_products);
}

// The result is f32, so that the rounding of a part of the sum to bf16 shows.
TEST_CASE("long products by cuBLAS", "[case]") {
  compare_all([](Stage& s) {
    const Tensor y = s.acc_out({3, 5});
    s.run(Linear{.x = s.act("x", {3, 1280}), .weight = s.act("w", {5, 1280}), .y = y});
    s.report("y", y, {.terms = 1280});
  });
}

TEST_CASE("products between kernels", "[case]") {
  compare_all([](Stage& s) {
    const Tensor weight = s.act("w", {8, 8}, 0.3);
    Tensor x = s.act("x", {4, 8});
    for (int i = 0; i < 6; ++i) {
      const Tensor sum = s.acc_out({4, 8}), y = s.act_out({4, 8});
      s.run(Linear{.x = x, .weight = weight, .y = sum});
      s.run(Cast{.from = sum, .to = y});
      x = y;
    }
    // Each of six products rounds its result, and the next one adds eight of them.
    s.report("x", x, {.terms = 48, .roundings = 12});
  });
}
