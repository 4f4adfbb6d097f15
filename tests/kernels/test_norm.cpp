// RMSNorm with the residual addition.
#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
struct Size {
  int64_t tokens, width;
};
const std::vector<Size> sizes = [] {
  std::vector<Size> all = {{1, 1}, {3, 7}, {17, 16}, {9, 33}, {70, 129}};
  for (int64_t tokens : around(block_sizes::norm_rows)) all.push_back({tokens, 5});
  for (int64_t width : around(block_sizes::norm_columns)) all.push_back({35, width});
  // On the CUDA backend a row belongs to a warp up to 256 or 1024 columns, and to a block above; beyond 2048 or 8192
  // columns it is read twice (less where the width is odd).
  for (int64_t width : {257, 1024, 1028, 2051, 8200}) all.push_back({5, width});
  return all;
}();
// As large as this, it shows in every row; the values that models have would be lost in rounding.
constexpr double eps = 0.01;
}  // namespace

TEST_CASE("AddRmsNorm: with and without a branch, sum in place or not") {
  enum class Branch { none, apart, in_place };
  for (const auto& [T, D] : sizes) {
    for (Branch kind : {Branch::none, Branch::apart, Branch::in_place}) {
      INFO("T " << T << " D " << D << " branch " << int(kind));
      compare_all([&](Stage& s) {
        AddRmsNorm op{.residual = s.acc("residual", {T, D}), .weight = s.acc("w", {D}), .eps = eps};
        if (kind != Branch::none) op.branch = s.acc("branch", {T, D});
        if (kind == Branch::apart) op.sum = s.acc_out({T, D});
        if (kind == Branch::in_place) op.sum = op.residual;
        op.y = s.act_out({T, D});
        op.rstd = s.acc_out({T});
        s.run(op);
        s.report("residual", op.residual);
        if (op.sum) s.report("sum", op.sum);
        s.report("y", op.y, {.terms = D});
        s.report("rstd", op.rstd, {.terms = D});
      });
    }
  }
}

TEST_CASE("RmsNormBackward: overwriting and accumulating, with and without the copy in act") {
  for (const auto& [T, D] : sizes) {
    for (Write write : {Write::overwrite, Write::accumulate}) {
      for (int copies : {0, 1}) {
        INFO("T " << T << " D " << D << " write " << int(write) << " copies " << copies);
        compare_all([&](Stage& s) {
          const Values rstd = reference_values(s, [&](Stage& r) {
            const Tensor out = r.acc_out({T});
            r.run(AddRmsNorm{.residual = r.acc("x", {T, D}),
                             .weight = r.acc("w", {D}),
                             .eps = eps,
                             .y = r.act_out({T, D}),
                             .rstd = out});
            r.report("rstd", out);
          })[0];
          RmsNormBackward op{.dy = s.acc("dy", {T, D}),
                             .x = s.acc("x", {T, D}),
                             .weight = s.acc("w", {D}),
                             .rstd = s.acc_of({T}, rstd),
                             .write = write};
          op.dresidual = write == Write::overwrite ? s.acc_out({T, D}) : s.acc("dresidual before", {T, D});
          if (copies == 1) op.dresidual_act = s.act_out({T, D});
          op.dweight = s.acc("dw before", {D});
          s.run(op);
          // With D = 1, dx = rstd (a − x̂ (a x̂)) is what cancellation leaves; |a| = |dy w| is below 10.
          const Tolerance tolerance{.terms = D, .cancelled = D == 1 ? 10 * rstd[0] : 0};
          s.report("dresidual", op.dresidual, tolerance);
          if (copies == 1) s.report("copy", op.dresidual_act, tolerance);
          s.report("dw", op.dweight, {.terms = T});
        });
      }
    }
  }
}
