// Rows of very different sizes, each held to a tolerance of its own: beside a row of ones, one of 2⁻⁵⁵ could be
// anything without being seen where the tolerance is that of the largest element of the tensor.
#include <cmath>

#include "harness.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
constexpr int64_t T = 12, I = 37, O = 21;

/// Rows of normal numbers, of which row t is multiplied by 2^(−5 t).
Values falling(Stage& s, const std::string& name, int64_t width) {
  Values values = s.read(s.acc(name, {T, width}));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = std::ldexp(values[i], -5 * static_cast<int>(static_cast<int64_t>(i) / width));
  return values;
}
Tensor falling_act(Stage& s, const std::string& name, int64_t width) {
  return s.act_of({T, width}, falling(s, name, width));
}
Tensor falling_acc(Stage& s, const std::string& name, int64_t width) {
  return s.acc_of({T, width}, falling(s, name, width));
}

/// Every row as an output of its own.
void report_rows(Stage& s, const std::string& name, const Tensor& tensor, const Tolerance& tolerance,
                 Bits bits = Bits::same_on_any_threads) {
  for (int64_t r = 0; r < tensor.dim(0); ++r)
    s.report(name + " row " + std::to_string(r), tensor.rows(r, r + 1), tolerance, bits);
}
}  // namespace

TEST_CASE("Matrix products: small rows are as exact as large ones") {
  const Bits bits = Bits::same_on_as_many_threads;
  compare_all([&](Stage& s) {
    const Linear linear{.x = falling_act(s, "x", I), .weight = s.act("w", {O, I}), .y = s.act_out({T, O})};
    s.run(linear);
    report_rows(s, "y", linear.y, {.terms = I}, bits);

    const LinearBackwardInput input{.dy = falling_act(s, "dy", O), .weight = linear.weight, .dx = s.acc_out({T, I})};
    s.run(input);
    report_rows(s, "dx", input.dx, {.terms = O}, bits);

    // Small columns of dy make small rows of dW.
    Values columns(static_cast<size_t>(I * T));
    const Values rows = falling(s, "dy^T", I);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t i = 0; i < I; ++i) columns[static_cast<size_t>(i * T + t)] = rows[static_cast<size_t>(t * I + i)];
    const Tensor dweight = s.acc_out({T, O});
    s.run(Zero{.x = dweight});
    s.run(LinearBackwardWeight{.dy = s.act_of({I, T}, columns), .x = s.act("x of dw", {I, O}), .dweight = dweight});
    report_rows(s, "dw", dweight, {.terms = I}, bits);

    const RouterLinear router{.x = linear.x, .weight = s.acc("router", {O, I}), .logits = s.acc_out({T, O})};
    s.run(router);
    report_rows(s, "logits", router.logits, {.terms = I}, bits);
  });
}

TEST_CASE("Norms: small rows are as exact as large ones") {
  compare_all([](Stage& s) {
    const AddRmsNorm norm{.residual = falling_acc(s, "residual", I),
                          .branch = falling_acc(s, "branch", I),
                          .weight = s.acc("w", {I}),
                          .eps = 1e-5,
                          .sum = s.acc_out({T, I}),
                          .y = s.act_out({T, I}),
                          .rstd = s.acc_out({T})};
    s.run(norm);
    report_rows(s, "sum", norm.sum, {});
    report_rows(s, "y", norm.y, {.terms = I});
    s.report("rstd", norm.rstd, {.terms = I});
    const RmsNormBackward backward{.dy = falling_acc(s, "dy", I),
                                   .x = s.acc("x", {T, I}),
                                   .weight = norm.weight,
                                   .rstd = s.acc_of({T}, Values(static_cast<size_t>(T), 0.9)),
                                   .dresidual = s.acc_out({T, I}),
                                   .dresidual_act = s.act_out({T, I}),
                                   .dweight = s.acc("dw before", {I})};
    s.run(backward);
    report_rows(s, "dresidual", backward.dresidual, {.terms = I});
    report_rows(s, "copy", backward.dresidual_act, {.terms = I});
  });
}

TEST_CASE("SwiGLU: small rows are as exact as large ones") {
  compare_all([](Stage& s) {
    const Tensor gate_up = s.act("gate_up", {T, 2 * I}), z = s.act_out({T, I});
    Values small = falling(s, "small gate_up", 2 * I);
    const Tensor small_gate_up = s.act_of({T, 2 * I}, small);
    s.run(Swiglu{.gate_up = small_gate_up, .z = z});
    report_rows(s, "z", z, {});
    const SwigluBackward backward{.gate_up = gate_up,
                                  .dz = falling_act(s, "dz", I),
                                  .weighted_z = s.act_out({T, I}),
                                  .dgate_up = s.act_out({T, 2 * I})};
    s.run(backward);
    report_rows(s, "dgate_up", backward.dgate_up, {.roundings = 1});
  });
}

// The gradient of a word is scale · p, down to the least probable one; every column is an output of its own.
TEST_CASE("CrossEntropy: gradients of improbable words are as exact as those of probable ones") {
  constexpr int64_t V = 16;
  Values logits;
  for (int64_t v = 0; v < V; ++v) logits.push_back(-5.0 * static_cast<double>(v));
  compare_all([&](Stage& s) {
    const CrossEntropy op{.logits = s.acc_of({1, V}, logits),
                          .targets = s.ids_of({1}, {3}),
                          .numbers = s.numbers({{StepNumber::target_share, 1}}),
                          .ce_weight = 1,
                          .ce = s.scalar(),
                          .dlogits = s.act_out({1, V})};
    s.run(op);
    // A logit of size 75 carries an error of 75 · 2⁻²⁴, which exp makes a relative error.
    report_rows(s, "dlogits", op.dlogits.view({V}), {.terms = 400});
  });
}
