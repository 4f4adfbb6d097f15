// The products of the latent cache, a batch of one product for each head, by cuBLAS: as linear.cpp, which explains the
// order of operands.
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

/// The rows of W_kvb that a head's matrix consists of, from row `first` of each head on.
struct HeadMatrix {
  const Tensor& weight;
  int64_t first;
  cublasOperation_t operation;  ///< from cuBLAS's side
};

/// Some columns of each head, the first head's from column 0 on.
struct HeadColumns {
  const Tensor& matrix;
  int64_t columns;  ///< of a head, that take part
  int64_t stride;   ///< from head to head
};

/// The columns of `to` = those of `from` times the head's matrix, for each head.
void multiply(cublasHandle_t blas, const char* name, const LatentLayout& l, const HeadMatrix& weight,
              const HeadColumns& from, const HeadColumns& to) {
  if (l.rows() == 0) return;
  const float one = 1, zero = 0;
  const auto size = [&](int64_t n) {
    gpu::require_at_most(INT32_MAX, n, "rows or columns of a matrix", name);
    return static_cast<int>(n);
  };
  const auto* const rows = static_cast<const std::byte*>(weight.weight.data) +
                           static_cast<size_t>(weight.first * l.latent) * size_of(weight.weight.dtype);
  const cudaDataType_t type = type_of(weight.weight);
  check(cublasGemmStridedBatchedEx(
            blas, weight.operation, CUBLAS_OP_N, size(to.columns), size(l.rows()), size(from.columns), &one, rows, type,
            size(l.latent), (l.nope_dim + l.value_dim) * l.latent, from.matrix.data, type, size(from.matrix.dim(1)),
            from.stride, &zero, to.matrix.data, type, size(to.matrix.dim(1)), to.stride, size(l.heads),
            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        name);
}

}  // namespace

void CudaOps::run(const AbsorbKeys& op) {
  const LatentLayout& l = op.layout;
  multiply(blas_, "AbsorbKeys", l, {op.weight, 0, CUBLAS_OP_N}, {op.queries, l.nope_dim, l.key_dim()},
           {op.absorbed, l.latent, l.latent});
}

void CudaOps::run(const ExpandValues& op) {
  const LatentLayout& l = op.layout;
  multiply(blas_, "ExpandValues", l, {op.weight, l.nope_dim, CUBLAS_OP_T}, {op.found, l.latent, l.latent},
           {op.out, l.value_dim, l.value_dim});
}

}  // namespace strand
