// RMSNorm of some columns of a matrix. Each row is widened to f32 and normalized while it is in the first cache.
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/partial_sums.h"
#include "kernels/cpu/rms_norm.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

namespace {
using simd::vfloat;

struct ForwardBuffers {
  ForwardBuffers(Workspace& memory, const LatentNorm& op) : row(memory, op.weight.dim(0)) {}
  ThreadBuffers row;  ///< [n]
};

template <typename T>
void forward(const LatentNorm& op, const ForwardBuffers& buffers) {
  const int64_t n = op.weight.dim(0), stride = op.x.dim(1);
  const float* weight = op.weight.as<float>();
  float* rstd = op.rstd.as<float>();
  for_blocks(op.x.dim(0), norm_rows, [&](int64_t begin, int64_t end, int64_t) {
    float* x = buffers.row.mine();
    for (int64_t t = begin; t < end; ++t) {
      convert(op.x.as<T>() + t * stride + op.first, x, n);
      rstd[t] = rms_rstd(sum_of_squares(x, n), n, op.eps);
      T* y = op.y.as<T>() + t * n;
      rms_norm_row(x, weight, rstd[t], n,
                   [&](int64_t i, int64_t count, vfloat v) { simd::store_up_to(y + i, v, count); });
    }
  });
}

struct BackwardBuffers {
  BackwardBuffers(Workspace& memory, const LatentNormBackward& op)
      : row(memory, op.weight.dim(0)),
        stride(blocks_of(op.weight.dim(0), simd::width) * simd::width),
        partial(memory.take<float>(blocks_of(op.dy.dim(0), norm_rows) * stride)) {}
  ThreadBuffers row;  ///< [n]
  int64_t stride;
  float* partial;  ///< [blocks, stride] of dweight
};

template <typename T>
void backward(const LatentNormBackward& op, const BackwardBuffers& buffers) {
  const int64_t rows = op.dy.dim(0), n = op.dy.dim(1), row_size = op.x.dim(1), stride = buffers.stride;
  const float *dy = op.dy.as<float>(), *weight = op.weight.as<float>(), *rstd = op.rstd.as<float>();
  float* const partial = buffers.partial;
  for_blocks(rows, norm_rows, [&](int64_t begin, int64_t end, int64_t block) {
    float *x = buffers.row.mine(), *dweight = partial + block * stride;
    std::fill_n(dweight, n, 0.0f);
    for (int64_t t = begin; t < end; ++t) {
      const int64_t at = t * row_size + op.first;
      convert(op.x.as<T>() + at, x, n);
      T* dx = op.dx.as<T>() + at;
      rms_norm_backward_row(dy + t * n, x, weight, rstd[t], n, dweight,
                            [&](int64_t i, int64_t count, vfloat v) { simd::store_up_to(dx + i, v, count); });
    }
  });
  add_partial_sums(partial, blocks_of(rows, norm_rows), stride, n, op.dweight.as<float>());
}
}  // namespace

void CpuOps::run(const LatentNorm& op) {
  const auto memory = buffers<ForwardBuffers>(op);
  dispatch_act(op.x.dtype, [&](auto tag) { forward<typename decltype(tag)::type>(op, memory); });
}

void CpuOps::run(const LatentNormBackward& op) {
  const auto memory = buffers<BackwardBuffers>(op);
  dispatch_act(op.x.dtype, [&](auto tag) { backward<typename decltype(tag)::type>(op, memory); });
}

size_t CpuWorkspaces::bytes(const LatentNorm& op) const {
  return workspace_bytes<ForwardBuffers>(op);
}
size_t CpuWorkspaces::bytes(const LatentNormBackward& op) const {
  return workspace_bytes<BackwardBuffers>(op);
}

}  // namespace strand
