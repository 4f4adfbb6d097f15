// Dense matrix products by cuBLAS: bf16 or f32 in, fp32 sums, no TF32. With the fixed workspace of CudaOps and one
// stream, the same shapes give the same bits.
//
// cuBLAS counts columns first: what it calls an m x n matrix with leading dimension ld is our row-major [n, ld]. So it
// is asked for yᵀ = W xᵀ where ops/linear.h says y = x Wᵀ.
#include "core/error.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/errors.h"

namespace strand {

using gpu::check;

namespace {

cudaDataType_t type_of(const Tensor& tensor) {
  if (tensor.dtype == DType::f32) return CUDA_R_32F;
  if (tensor.dtype == DType::bf16) return CUDA_R_16BF;
  gpu::throw_unsupported(tensor.dtype);
}

/// A row-major matrix as an operand, either as it is or transposed.
struct Operand {
  const Tensor& matrix;
  cublasOperation_t operation;  ///< from cuBLAS's side: CUBLAS_OP_N leaves [rows, columns] as columns x rows
};

/// c [rows, columns] (+)= the product over `inner`, in row-major terms: cᵀ = left · right.
void multiply(cublasHandle_t blas, const char* name, const Operand& left, const Operand& right, const Tensor& c,
              int64_t inner, Write write) {
  const float one = 1, beta = write == Write::accumulate ? 1.0f : 0.0f;
  const auto size = [&](int64_t n) {
    gpu::require_at_most(INT32_MAX, n, "rows or columns of a matrix", name);
    return static_cast<int>(n);
  };
  check(cublasGemmEx(blas, left.operation, right.operation, size(c.dim(1)), size(c.dim(0)), size(inner), &one,
                     left.matrix.data, type_of(left.matrix), size(left.matrix.dim(1)), right.matrix.data,
                     type_of(right.matrix), size(right.matrix.dim(1)), &beta, c.data, type_of(c), size(c.dim(1)),
                     CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        name);
}

}  // namespace

void CudaOps::run(const Linear& op) {
  if (op.y.elements() == 0) return;
  multiply(blas_, "Linear", {op.weight, CUBLAS_OP_T}, {op.x, CUBLAS_OP_N}, op.y, op.x.dim(1), Write::overwrite);
}

void CudaOps::run(const LinearBackwardInput& op) {
  if (op.dx.elements() == 0) return;
  multiply(blas_, "LinearBackwardInput", {op.weight, CUBLAS_OP_N}, {op.dy, CUBLAS_OP_N}, op.dx, op.dy.dim(1), op.write);
}

void CudaOps::run(const LinearBackwardWeight& op) {
  if (op.dweight.elements() == 0 || op.x.dim(0) == 0) return;
  multiply(blas_, "LinearBackwardWeight", {op.x, CUBLAS_OP_N}, {op.dy, CUBLAS_OP_T}, op.dweight, op.x.dim(0),
           Write::accumulate);
}

}  // namespace strand
