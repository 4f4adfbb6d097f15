// The passes over all parameters: bound by memory, so each reads and writes every array once.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/token_blocks.h"
#include "kernels/host_numbers.h"

namespace strand {
namespace {

constexpr int64_t block_elements = block_sizes::optimizer_elements;

typedef double vdouble __attribute__((vector_size(64)));
typedef float half_vfloat __attribute__((vector_size(32)));

/// Σ x² in double: the products of floats are exact.
double sum_of_squares(const float* x, int64_t count) {
  vdouble low{}, high{};
  int64_t i = 0;
  for (; i + simd::width <= count; i += simd::width) {
    half_vfloat a, b;
    std::memcpy(&a, x + i, sizeof a);
    std::memcpy(&b, x + i + 8, sizeof b);
    const vdouble da = __builtin_convertvector(a, vdouble), db = __builtin_convertvector(b, vdouble);
    low += da * da;
    high += db * db;
  }
  double sum = 0;
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  low += high;
  for (int lane = 0; lane < 8; ++lane) sum += low[lane];
  return sum;
}

struct AdamStep {
  float gradient_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
  float rate;      // lr / (1 − β1^t)
  float v_to_hat;  // 1 / (1 − β2^t)
  float eps;
  float shrink;  // lr · decay

  /// One element, or a vector of them through `omp simd`.
  void update(float& w, float g, float& m, float& v) const {
    g *= gradient_scale;
    m = beta1 * m + one_minus_beta1 * g;
    v = beta2 * v + one_minus_beta2 * (g * g);
    w -= change(w, m, v);
  }
  /// What is taken from a weight, given the moments after the update and the weight before it.
  float change(float w, float m, float v) const { return rate * m / (std::sqrt(v * v_to_hat) + eps) + shrink * w; }
};

template <typename Op>
AdamStep adam_step(const Op& op) {
  const double updates = step_number(op.numbers, StepNumber::updates);
  const double lr = step_number(op.numbers, StepNumber::learning_rate);
  return {.gradient_scale = static_cast<float>(step_number(op.numbers, StepNumber::gradient_scale)),
          .beta1 = static_cast<float>(op.beta1),
          .one_minus_beta1 = static_cast<float>(1 - op.beta1),
          .beta2 = static_cast<float>(op.beta2),
          .one_minus_beta2 = static_cast<float>(1 - op.beta2),
          .rate = static_cast<float>(lr / (1 - std::pow(op.beta1, updates))),
          .v_to_hat = static_cast<float>(1 / (1 - std::pow(op.beta2, updates))),
          .eps = static_cast<float>(op.eps),
          .shrink = static_cast<float>(lr * op.decay)};
}

void adam(const AdamStep& step, float* __restrict w, const float* __restrict g, float* __restrict m,
          float* __restrict v, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) step.update(w[i], g[i], m[i], v[i]);
}

struct SquaredSums {
  double update = 0, weight = 0;
};

/// Σ Δw² and Σ w² of `count` weights after an update by `step`; `grow` is 1 / (1 − lr · decay).
SquaredSums squared_updates(const AdamStep& step, float grow, const float* w, const float* m, const float* v,
                            int64_t count) {
  double update = 0, weight = 0;
#pragma omp simd reduction(+ : update, weight)
  for (int64_t i = 0; i < count; ++i) {
    const auto moved = static_cast<double>(grow * step.change(w[i], m[i], v[i]));
    const auto size = static_cast<double>(w[i]);
    update += moved * moved;
    weight += size * size;
  }
  return {update, weight};
}

constexpr int64_t unit = block_elements / token_block;  // sum_over_blocks takes token_block units at a time

struct SumBuffers : PartialSums {
  SumBuffers(Workspace& memory, const SumOfSquares& op) : PartialSums(memory, blocks_of(op.x.elements(), unit)) {}
};

struct UpdateBuffers {
  UpdateBuffers(Workspace& memory, const SumOfUpdates& op)
      : partial(memory.take<SquaredSums>(blocks_of(op.weight.elements(), block_elements))) {}
  SquaredSums* partial;  ///< [blocks]
};

}  // namespace

void CpuOps::run(const SumOfSquares& op) {
  const int64_t count = op.x.elements();
  const float* x = op.x.as<float>();
  *op.sum.as<double>() +=
      sum_over_blocks(blocks_of(count, unit), buffers<SumBuffers>(op), [&](int64_t begin, int64_t end) {
        return sum_of_squares(x + begin * unit, std::min(count, end * unit) - begin * unit);
      });
}

void CpuOps::run(const ClipGradient& op) {
  clip_gradient(op);
}

void CpuOps::run(const AdamW& op) {
  if (step_number(op.numbers, StepNumber::apply) == 0) return;
  const AdamStep step = adam_step(op);
  float* w = op.weight.as<float>();
  const float* g = op.gradient.as<float>();
  float* m = op.m.as<float>();
  float* v = op.v.as<float>();
  constexpr int64_t in_cache = block_sizes::updated_elements;  // rounded copies are made of weights just written
  for_blocks(op.weight.elements(), block_elements, [&](int64_t first, int64_t last, int64_t) {
    for (int64_t begin = first; begin < last; begin += in_cache) {
      const int64_t count = std::min(in_cache, last - begin);
      adam(step, w + begin, g + begin, m + begin, v + begin, count);
      if (!op.weight_act) continue;
      dispatch_act(op.weight_act.dtype, [&](auto tag) {
        using Act = typename decltype(tag)::type;
        convert(w + begin, op.weight_act.as<Act>() + begin, count);
      });
    }
  });
}

void CpuOps::run(const SumOfUpdates& op) {
  const bool applied = step_number(op.numbers, StepNumber::apply) != 0;
  const AdamStep step = applied ? adam_step(op) : AdamStep{.v_to_hat = 0, .eps = 1};  // by which nothing moves
  const auto grow = static_cast<float>(1 / (1 - step_number(op.numbers, StepNumber::learning_rate) * op.decay));
  const auto *w = op.weight.as<float>(), *m = op.m.as<float>(), *v = op.v.as<float>();
  SquaredSums* const partial = buffers<UpdateBuffers>(op).partial;
  const int64_t count = op.weight.elements();
  for_blocks(count, block_elements, [&](int64_t begin, int64_t end, int64_t block) {
    partial[block] = squared_updates(step, grow, w + begin, m + begin, v + begin, end - begin);
  });
  SquaredSums total;
  for (int64_t block = 0; block < blocks_of(count, block_elements); ++block) {
    total.update += partial[block].update;
    total.weight += partial[block].weight;
  }
  *op.squared_update.as<double>() += total.update;
  *op.squared_weight.as<double>() += total.weight;
}

size_t CpuWorkspaces::bytes(const SumOfSquares& op) const {
  return workspace_bytes<SumBuffers>(op);
}
size_t CpuWorkspaces::bytes(const SumOfUpdates& op) const {
  return workspace_bytes<UpdateBuffers>(op);
}

}  // namespace strand
