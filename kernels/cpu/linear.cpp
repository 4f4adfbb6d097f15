// Dense matrix products, and the router's, which are always f32.
#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"

namespace strand {

void CpuOps::run(const Linear& op) {
  const int64_t rows = op.x.dim(0);
  if (rows == 0) return;
  gemm_->run({.layout = GemmLayout::nt,
              .in = op.x.dtype,
              .out = op.y.dtype,
              .m = rows,
              .n = op.weight.dim(0),
              .k = op.weight.dim(1)},
             op.x.data, op.weight.data, op.y.data);
}

void CpuOps::run(const LinearBackwardInput& op) {
  const int64_t rows = op.dy.dim(0);
  if (rows == 0) return;
  gemm_->run({.layout = GemmLayout::nn,
              .write = op.write,
              .in = op.dy.dtype,
              .out = op.dx.dtype,
              .m = rows,
              .n = op.weight.dim(1),
              .k = op.weight.dim(0)},
             op.dy.data, op.weight.data, op.dx.data);
}

void CpuOps::run(const LinearBackwardWeight& op) {
  const int64_t rows = op.x.dim(0), outputs = op.dweight.dim(0), inputs = op.dweight.dim(1);
  if (rows == 0) return;
  constexpr int64_t multiple = block_sizes::weight_slice_multiple;
  const bool cut = outputs >= 2 * block_sizes::weight_slice;
  const int64_t slice = cut ? blocks_of(outputs / 2, multiple) * multiple : outputs;
  for (int64_t begin = 0; begin < outputs; begin += slice) {
    gemm_->run({.layout = GemmLayout::tn,
                .write = Write::accumulate,
                .in = op.x.dtype,
                .out = op.dweight.dtype,
                .m = std::min(slice, outputs - begin),
                .n = inputs,
                .k = rows,
                .lda = outputs},
               static_cast<const std::byte*>(op.dy.data) + static_cast<size_t>(begin) * size_of(op.dy.dtype), op.x.data,
               op.dweight.as<float>() + begin * inputs);
  }
}

namespace {

constexpr int64_t widened_rows = block_sizes::widened_rows;

/// body(begin, end, x32) for blocks of rows of x, x32 being those rows in f32.
template <typename Body>
void for_f32_rows(Scratch& scratch, const Tensor& x, const Body& body) {
  const int64_t rows = x.dim(0), columns = x.dim(1);
  if (rows == 0) return;
  if (x.dtype == DType::f32) return body(int64_t{0}, rows, x.as<float>());
  const bf16* from = x.as<bf16>();
  float* to = scratch.get<float>(std::min(rows, widened_rows) * columns);
  for (int64_t begin = 0; begin < rows; begin += widened_rows) {
    const int64_t end = std::min(rows, begin + widened_rows);
    for_blocks((end - begin) * columns, block_sizes::widened_elements, [&](int64_t first, int64_t last, int64_t) {
      convert(from + begin * columns + first, to + first, last - first);
    });
    body(begin, end, to);
  }
}

}  // namespace

void CpuOps::run(const RouterLinear& op) {
  const int64_t experts = op.weight.dim(0), width = op.weight.dim(1);
  float* logits = op.logits.as<float>();
  for_f32_rows(gemm_->scratch(), op.x, [&](int64_t begin, int64_t end, const float* x) {
    gemm_->run({.layout = GemmLayout::nt, .m = end - begin, .n = experts, .k = width}, x, op.weight.data,
               logits + begin * experts);
  });
}

void CpuOps::run(const RouterLinearBackward& op) {
  const int64_t rows = op.dx.dim(0), experts = op.weight.dim(0), width = op.weight.dim(1);
  if (rows == 0) return;
  gemm_->run({.layout = GemmLayout::nn, .write = Write::accumulate, .m = rows, .n = width, .k = experts},
             op.dlogits.data, op.weight.data, op.dx.data);
  const float* dlogits = op.dlogits.as<float>();
  for_f32_rows(gemm_->scratch(), op.x, [&](int64_t begin, int64_t end, const float* x) {
    gemm_->run({.layout = GemmLayout::tn, .write = Write::accumulate, .m = experts, .n = width, .k = end - begin},
               dlogits + begin * experts, x, op.dweight.data);
  });
}

}  // namespace strand
