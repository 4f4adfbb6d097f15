// Products of the row blocks of experts.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"
#include "kernels/cuda/grouped_cublas.h"
#include "kernels/cuda/grouped_gemm.h"

namespace strand {

using namespace gpu;

namespace {

/// `rows` [R, ...], `weight` [E, O, I].
GroupShape shape_of(const Tensor& rows, const Tensor& weight, const Tensor& offsets) {
  return {.offsets = data<int32_t>(offsets),
          .experts = static_cast<int>(weight.dim(0)),
          .rows = static_cast<int>(rows.dim(0)),
          .inputs = static_cast<int>(weight.dim(2)),
          .outputs = static_cast<int>(weight.dim(1))};
}

cudaDataType_t type_of(const Tensor& tensor) {
  if (tensor.dtype == DType::f32) return CUDA_R_32F;
  if (tensor.dtype == DType::bf16) return CUDA_R_16BF;
  throw_unsupported(tensor.dtype);
}

}  // namespace

void CudaOps::run(const GroupedLinear& op) {
  const GroupShape shape = shape_of(op.x, op.weight, op.offsets);
  if (shape.rows == 0) return;
  if (grouped_cublas_ != nullptr)
    return grouped_cublas_->forward(op.x.data, op.weight.data, op.y.data, type_of(op.x), shape);
  dispatch_act(op.x.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    grouped_forward(data<T>(op.x), data<T>(op.weight), data<T>(op.y), shape, stream_);
  });
}

void CudaOps::run(const GroupedLinearBackwardInput& op) {
  const GroupShape shape = shape_of(op.dy, op.weight, op.offsets);
  if (shape.rows == 0) return;
  if (grouped_cublas_ != nullptr)
    return grouped_cublas_->backward_input(op.dy.data, op.weight.data, op.dx.data, type_of(op.dy), shape);
  dispatch_act(op.dy.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    grouped_backward_input(data<T>(op.dy), data<T>(op.weight), data<T>(op.dx), shape_of(op.dy, op.weight, op.offsets),
                           stream_);
  });
}

void CudaOps::run(const GroupedLinearBackwardWeight& op) {
  const GroupShape shape = shape_of(op.x, op.dweight, op.offsets);
  if (shape.rows == 0) return;
  if (grouped_cublas_ != nullptr)
    return grouped_cublas_->backward_weight(op.dy.data, op.x.data, data<float>(op.dweight), type_of(op.x), shape);
  dispatch_act(op.x.dtype, [&](auto act) {
    using T = typename decltype(act)::type;
    grouped_backward_weight(data<T>(op.dy), data<T>(op.x), data<float>(op.dweight), shape, stream_);
  });
}

}  // namespace strand
