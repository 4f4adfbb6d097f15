// cuBLAS at its C interface, as far as strand calls it: matrix products of column-major matrices, bf16 or fp32 in and
// out, accumulated in fp32 in the order of k. The real library chooses algorithms of its own, and rounds as they do. As
// it may, this one cuts long sums of bf16 products into parts and adds these in bf16, unless the handle forbids it.
#include <cublas_v2.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "gpu_emulation/checker.h"
#include "gpu_emulation/device_memory.h"
#include "gpu_emulation/reports.h"
#include "gpu_emulation/streams.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasMath_t mode = CUBLAS_DEFAULT_MATH;
};

namespace gpu_emulation {

namespace {
/// The form of one product C[m, n] = alpha op(A)[m, k] op(B)[k, n] + beta C.
struct Product {
  cublasOperation_t transpose_a, transpose_b;
  int m, n, k;
  int lda, ldb, ldc;
  float alpha, beta;
  cudaDataType type_ab, type_c;
  int part_terms;  ///< 0: one fp32 sum; else sums of so many products each are rounded to bf16 and added in bf16
};

/// Where a handle does not forbid it, the real library does this with sums from some hundred products on.
int part_terms(const cublasContext& handle, cudaDataType type) {
  constexpr int terms_of_a_part = 256;
  const bool forbidden = (handle.mode & CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) != 0;
  return type == CUDA_R_16BF && !forbidden ? terms_of_a_part : 0;
}

bool known_type(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16BF;
}
size_t width(cudaDataType type) {
  return type == CUDA_R_32F ? 4 : 2;
}

float load(const void* from, cudaDataType type, size_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(from)[i];
  return std::bit_cast<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(from)[i]) << 16);
}

void store(void* to, cudaDataType type, size_t i, float value) {
  if (type == CUDA_R_32F)
    static_cast<float*>(to)[i] = value;
  else
    static_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16(value);
}

/// Bounds and, with the checker, every column. False when a product must not touch the matrix.
bool check_matrix(const void* matrix, int rows, int columns, int ld, cudaDataType type, Access access,
                  const char* what) {
  if (rows == 0 || columns == 0) return true;
  const size_t column_bytes = static_cast<size_t>(ld) * width(type);
  const size_t row_bytes = static_cast<size_t>(rows) * width(type);
  if (!require_device_range(matrix, static_cast<size_t>(columns - 1) * column_bytes + row_bytes, what)) return false;
  if (checker_on)
    for (int c = 0; c < columns; ++c)
      check_range(static_cast<const char*>(matrix) + static_cast<size_t>(c) * column_bytes, row_bytes, access, what);
  return true;
}

/// op(matrix) with `inner` contiguous: element (outer, inner) at outer * inner_count + inner.
std::vector<float> gathered(const void* matrix, cudaDataType type, int ld, int outer_count, int inner_count,
                            bool inner_contiguous) {
  std::vector<float> values(static_cast<size_t>(outer_count) * static_cast<size_t>(inner_count));
  for (int outer = 0; outer < outer_count; ++outer)
    for (int inner = 0; inner < inner_count; ++inner)
      values[static_cast<size_t>(outer) * static_cast<size_t>(inner_count) + static_cast<size_t>(inner)] =
          load(matrix, type,
               inner_contiguous ? static_cast<size_t>(outer) * static_cast<size_t>(ld) + static_cast<size_t>(inner)
                                : static_cast<size_t>(inner) * static_cast<size_t>(ld) + static_cast<size_t>(outer));
  return values;
}

float round_to_bf16(float x) {
  return __bfloat162float(__float2bfloat16(x));
}

/// Σ x[q] y[q], q ascending.
float dot(const Product& p, const float* x, const float* y) {
  const int part = p.part_terms == 0 ? std::max(1, p.k) : p.part_terms;
  float total = 0;
  for (int first = 0; first < p.k; first += part) {
    float sum = 0;
    for (int q = first; q < std::min(first + part, p.k); ++q) sum += x[q] * y[q];
    total = part >= p.k ? sum : round_to_bf16(total + round_to_bf16(sum));
  }
  return total;
}

void multiply(const Product& p, const void* a, const void* b, void* c) {
  const bool a_turned = p.transpose_a == CUBLAS_OP_T, b_turned = p.transpose_b == CUBLAS_OP_T;
  bool good = check_matrix(a, a_turned ? p.k : p.m, a_turned ? p.m : p.k, p.lda, p.type_ab, Access::read, "cuBLAS A");
  good &= check_matrix(b, b_turned ? p.n : p.k, b_turned ? p.k : p.n, p.ldb, p.type_ab, Access::read, "cuBLAS B");
  if (p.beta != 0) good &= check_matrix(c, p.m, p.n, p.ldc, p.type_c, Access::read, "cuBLAS C");
  good &= check_matrix(c, p.m, p.n, p.ldc, p.type_c, Access::write, "cuBLAS C");
  if (!good) return;
  const std::vector<float> rows = gathered(a, p.type_ab, p.lda, p.m, p.k, a_turned);
  const std::vector<float> columns = gathered(b, p.type_ab, p.ldb, p.n, p.k, !b_turned);
  for (int j = 0; j < p.n; ++j) {
    for (int i = 0; i < p.m; ++i) {
      const float* x = rows.data() + static_cast<size_t>(i) * static_cast<size_t>(p.k);
      const float* y = columns.data() + static_cast<size_t>(j) * static_cast<size_t>(p.k);
      const float sum = dot(p, x, y);
      const size_t at = static_cast<size_t>(j) * static_cast<size_t>(p.ldc) + static_cast<size_t>(i);
      store(c, p.type_c, at, p.alpha * sum + (p.beta != 0 ? p.beta * load(c, p.type_c, at) : 0));
    }
  }
}

bool sensible(const Product& p) {
  const bool good = p.m >= 0 && p.n >= 0 && p.k >= 0 &&
                    p.lda >= std::max(1, p.transpose_a == CUBLAS_OP_N ? p.m : p.k) &&
                    p.ldb >= std::max(1, p.transpose_b == CUBLAS_OP_N ? p.k : p.n) && p.ldc >= std::max(1, p.m);
  if (!good)
    report("cublas-arguments", "a product with m %d, n %d, k %d, lda %d, ldb %d, ldc %d", p.m, p.n, p.k, p.lda, p.ldb,
           p.ldc);
  return good;
}

bool supported(cudaDataType a, cudaDataType b, cudaDataType c, cublasComputeType_t compute) {
  const bool good = known_type(a) && known_type(c) && a == b && !(a == CUDA_R_32F && c == CUDA_R_16BF) &&
                    (compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                     compute == CUBLAS_COMPUTE_32F_FAST_TF32);
  if (!good) report("cublas-arguments", "a combination of types that cuBLAS does not have");
  return good;
}

const void* offset(const void* base, long long elements, cudaDataType type) {
  return static_cast<const char*>(base) + static_cast<size_t>(elements) * width(type);
}

bool device_table(const void* table, int entries) {
  const size_t bytes = static_cast<size_t>(entries) * sizeof(void*);
  if (!require_device_range(table, bytes, "a pointer array of cuBLAS")) return false;
  check_range(table, bytes, Access::read, "a pointer array of cuBLAS");
  return true;
}
}  // namespace

}  // namespace gpu_emulation

using namespace gpu_emulation;

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, size_t bytes) {
  const std::lock_guard lock(api_mutex());
  if (!require_device_range(workspace, bytes, "cublasSetWorkspace")) return CUBLAS_STATUS_INVALID_VALUE;
  give_to_library(workspace);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle->mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
  *version = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                                          cublasOperation_t transpose_b, int m, int n, int k, const void* alpha,
                                          const void* a, cudaDataType type_a, int lda, long long stride_a,
                                          const void* b, cudaDataType type_b, int ldb, long long stride_b,
                                          const void* beta, void* c, cudaDataType type_c, int ldc, long long stride_c,
                                          int count, cublasComputeType_t compute, cublasGemmAlgo_t) {
  const std::lock_guard lock(api_mutex());
  if (!supported(type_a, type_b, type_c, compute)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const Product p{transpose_a,
                  transpose_b,
                  m,
                  n,
                  k,
                  lda,
                  ldb,
                  ldc,
                  *static_cast<const float*>(alpha),  // host scalars are read at the call
                  *static_cast<const float*>(beta),
                  type_a,
                  type_c,
                  part_terms(*handle, type_a)};
  if (!sensible(p)) return CUBLAS_STATUS_INVALID_VALUE;
  enqueue(handle->stream, {.name = "cublasGemm", .run = [=] {
                             for (int i = 0; i < count; ++i)
                               multiply(p, offset(a, i * stride_a, type_a), offset(b, i * stride_b, type_b),
                                        const_cast<void*>(offset(c, i * stride_c, type_c)));
                             return Progress::done;
                           }});
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m,
                            int n, int k, const void* alpha, const void* a, cudaDataType type_a, int lda, const void* b,
                            cudaDataType type_b, int ldb, const void* beta, void* c, cudaDataType type_c, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb,
                                    0, beta, c, type_c, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasGemmGroupedBatchedEx(cublasHandle_t handle, const cublasOperation_t transpose_a[],
                                          const cublasOperation_t transpose_b[], const int m[], const int n[],
                                          const int k[], const void* alpha, const void* const a[],
                                          cudaDataType_t type_a, const int lda[], const void* const b[],
                                          cudaDataType_t type_b, const int ldb[], const void* beta, void* const c[],
                                          cudaDataType_t type_c, const int ldc[], int groups, const int sizes[],
                                          cublasComputeType_t compute) {
  const std::lock_guard lock(api_mutex());
  if (!supported(type_a, type_b, type_c, compute)) return CUBLAS_STATUS_NOT_SUPPORTED;
  std::vector<Product> products;  // host arrays are read at the call; the pointer arrays live on the device
  for (int g = 0; g < groups; ++g) {
    const Product p{transpose_a[g],
                    transpose_b[g],
                    m[g],
                    n[g],
                    k[g],
                    lda[g],
                    ldb[g],
                    ldc[g],
                    static_cast<const float*>(alpha)[g],
                    static_cast<const float*>(beta)[g],
                    type_a,
                    type_c,
                    part_terms(*handle, type_a)};
    if (!sensible(p)) return CUBLAS_STATUS_INVALID_VALUE;
    products.insert(products.end(), static_cast<size_t>(sizes[g]), p);
  }
  const int total = static_cast<int>(products.size());
  enqueue(handle->stream, {.name = "cublasGemmGroupedBatched", .run = [=] {
                             if (!device_table(a, total) || !device_table(b, total) || !device_table(c, total))
                               return Progress::done;
                             for (int i = 0; i < total; ++i)
                               multiply(products[static_cast<size_t>(i)], a[i], b[i], c[i]);
                             return Progress::done;
                           }});
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "an unknown status";
  }
}

const char* cublasGetStatusString(cublasStatus_t status) {
  return cublasGetStatusName(status);
}

}  // extern "C"
