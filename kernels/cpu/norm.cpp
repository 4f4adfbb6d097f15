// RMSNorm with the residual addition: each row is read once and normalized while it is in the first cache.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

namespace {
using simd::vfloat;

/// sum = residual + branch; returns Σ sum²
float add_row(const float* residual, const float* branch, int64_t n, float* sum) {
  using namespace simd;
  vfloat squares = {};
  for (int64_t i = 0; i < n; i += width) {
    const vfloat v = load_up_to(residual + i, n - i) + load_up_to(branch + i, n - i);
    store_up_to(sum + i, v, n - i);
    squares += v * v;
  }
  return simd::sum(squares);
}

template <typename T>
void forward(const AddRmsNorm& op) {
  const int64_t n = op.residual.dim(1);
  const float *residual = op.residual.as<float>(), *weight = op.weight.as<float>();
  const float* branch = op.branch ? op.branch.as<float>() : nullptr;
  float* sum = branch ? op.sum.as<float>() : nullptr;
  float* rstd = op.rstd.as<float>();
  T* y = op.y.as<T>();
  for_blocks(op.residual.dim(0), norm_rows, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = branch ? sum + t * n : residual + t * n;
      const float squares = branch ? add_row(residual + t * n, branch + t * n, n, sum + t * n) : sum_of_squares(x, n);
      rstd[t] = rms_rstd(squares, n, op.eps);
      rms_norm_row(x, weight, rstd[t], n,
                   [&](int64_t i, int64_t count, vfloat v) { simd::store_up_to(y + t * n + i, v, count); });
    }
  });
}

struct BackwardBuffers {
  BackwardBuffers(Workspace& memory, const RmsNormBackward& op)
      : stride(blocks_of(op.dy.dim(1), simd::width) * simd::width),
        partial(memory.take<float>(blocks_of(op.dy.dim(0), norm_rows) * stride)) {}
  int64_t stride;
  float* partial;  ///< [blocks, stride] of dweight
};

/// T is the type of dresidual_act.
template <typename T>
void backward(const RmsNormBackward& op, const BackwardBuffers& buffers) {
  const int64_t rows = op.dy.dim(0), n = op.dy.dim(1), stride = buffers.stride;
  const float *dy = op.dy.as<float>(), *x = op.x.as<float>(), *weight = op.weight.as<float>();
  const float* rstd = op.rstd.as<float>();
  float* dresidual = op.dresidual.as<float>();
  T* dresidual_act = op.dresidual_act ? op.dresidual_act.as<T>() : nullptr;
  float* const partial = buffers.partial;
  for_blocks(rows, norm_rows, [&](int64_t begin, int64_t end, int64_t block) {
    float* dweight = partial + block * stride;
    std::fill_n(dweight, n, 0.0f);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t row = t * n;
      rms_norm_backward_row(dy + row, x + row, weight, rstd[t], n, dweight, [&](int64_t i, int64_t count, vfloat dx) {
        if (op.write == Write::accumulate) dx += simd::load_up_to(dresidual + row + i, count);
        simd::store_up_to(dresidual + row + i, dx, count);
        if (dresidual_act) simd::store_up_to(dresidual_act + row + i, dx, count);
      });
    }
  });
  add_partial_sums(partial, blocks_of(rows, norm_rows), stride, n, op.dweight.as<float>());
}
}  // namespace

void CpuOps::run(const AddRmsNorm& op) {
  dispatch_act(op.y.dtype, [&](auto tag) { forward<typename decltype(tag)::type>(op); });
}

void CpuOps::run(const RmsNormBackward& op) {
  const DType act = op.dresidual_act ? op.dresidual_act.dtype : DType::f32;
  const auto memory = buffers<BackwardBuffers>(op);
  dispatch_act(act, [&](auto tag) { backward<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const RmsNormBackward& op) const {
  return workspace_bytes<BackwardBuffers>(op);
}

}  // namespace strand
