// Cross-entropy of one chunk of logits. A row is read three times (maximum, sum of exponentials, gradient), the second
// and the third time from the cache.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/token_blocks.h"
#include "kernels/host_numbers.h"

namespace strand {
namespace {

using simd::vfloat;

float row_maximum(const float* x, int64_t count) {
  vfloat a = simd::splat(x[0]), b = a;
  int64_t i = 0;
  for (; i + 2 * simd::width <= count; i += 2 * simd::width) {
    a = simd::max(simd::load(x + i), a);
    b = simd::max(simd::load(x + i + simd::width), b);
  }
  for (; i < count; i += simd::width) {
    a = simd::max(simd::load_partial(x + i, std::min<int64_t>(simd::width, count - i), x[0]), a);
  }
  return simd::maximum(simd::max(a, b));
}

/// Σ exp(x − maximum). Float lanes over a stretch, double over the stretches: the error does not grow with V.
double sum_of_exp(const float* x, int64_t count, float maximum) {
  constexpr int64_t stretch = block_sizes::exponentials;
  double sum = 0;
  for (int64_t begin = 0; begin < count; begin += stretch) {
    const int64_t end = std::min(count, begin + stretch);
    vfloat partial = simd::splat(0);
    int64_t i = begin;
    for (; i + simd::width <= end; i += simd::width) partial += simd::exp(simd::load(x + i) - maximum);
    if (i < end) partial += simd::exp(simd::load_partial(x + i, end - i, -INFINITY) - maximum);
    sum += simd::sum(partial);
  }
  return sum;
}

/// dlogits = scale · exp(x − maximum), with scale = grad_scale / Σ exp; the target is the caller's.
template <typename Act>
void scaled_exp(const float* x, int64_t count, float maximum, float scale, Act* dlogits) {
  simd::for_lanes(count, [&](int64_t i, auto lanes) {
    simd::store(dlogits + i, simd::exp(simd::load(x + i, lanes) - maximum) * scale, lanes);
  });
}

/// −log softmax(x)[target]; writes the row's gradient unless `dlogits` is null.
template <typename Act>
double cross_entropy_row(const float* x, int64_t count, int32_t target, double grad_scale, Act* dlogits) {
  const float maximum = row_maximum(x, count);
  const double sum = sum_of_exp(x, count, maximum);
  const double at_target = static_cast<double>(x[target]) - static_cast<double>(maximum);
  if (dlogits != nullptr) {
    scaled_exp(x, count, maximum, static_cast<float>(grad_scale / sum), dlogits);
    dlogits[target] = static_cast<Act>(static_cast<float>(grad_scale * (std::exp(at_target) / sum - 1)));
  }
  return std::log(sum) - at_target;
}

struct LossBuffers : PartialSums {
  LossBuffers(Workspace& memory, const CrossEntropy& op) : PartialSums(memory, op.logits.dim(0)) {}
};

template <typename Act>
double cross_entropy(const CrossEntropy& op, double grad_scale, Act* dlogits, const LossBuffers& buffers) {
  const int64_t vocabulary = op.logits.dim(1);
  const float* logits = op.logits.as<float>();
  const int32_t* targets = op.targets.as<int32_t>();
  return sum_over_blocks(op.logits.dim(0), buffers, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t t = begin; t < end; ++t) {
      Act* row = dlogits == nullptr ? nullptr : dlogits + t * vocabulary;
      if (targets[t] >= 0) {
        sum += cross_entropy_row(logits + t * vocabulary, vocabulary, targets[t], grad_scale, row);
      } else if (row != nullptr) {
        std::fill(row, row + vocabulary, Act{});
      }
    }
    return sum;
  });
}

}  // namespace

void CpuOps::run(const CrossEntropy& op) {
  const double share = step_number(op.numbers, StepNumber::target_share);
  const auto memory = buffers<LossBuffers>(op);
  double sum = 0;
  if (!op.dlogits) {
    sum = cross_entropy<float>(op, 0, nullptr, memory);
  } else {
    dispatch_act(op.dlogits.dtype, [&](auto tag) {
      using Act = typename decltype(tag)::type;
      sum = cross_entropy(op, op.ce_weight * share, op.dlogits.as<Act>(), memory);
    });
  }
  *op.ce.as<double>() += share * sum;
}

size_t CpuWorkspaces::bytes(const CrossEntropy& op) const {
  return workspace_bytes<LossBuffers>(op);
}

}  // namespace strand
