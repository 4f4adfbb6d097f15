// cuBLAS subset at its real C ABI: column-major GEMMs, bf16/fp32 in and out, fp32 accumulation, executed in stream
// order.
#include <cublas_v2.h>

#include <cstdio>

#include "gpu_emulation/internal.h"
using namespace gpu_emulation;
struct cublasContext {
  cudaStream_t stream = nullptr;
};
namespace {
float get(const void* p, cudaDataType t, size_t i) {
  if (t == CUDA_R_32F) return ((const float*)p)[i];
  unsigned u = (unsigned)((const unsigned short*)p)[i] << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
void put(void* p, cudaDataType t, size_t i, float v) {
  if (t == CUDA_R_32F)
    ((float*)p)[i] = v;
  else
    ((__nv_bfloat16*)p)[i] = __float2bfloat16(v);
}
size_t width(cudaDataType t) {
  return t == CUDA_R_32F ? 4 : 2;
}
bool type_ok(cudaDataType t) {
  return t == CUDA_R_32F || t == CUDA_R_16BF;
}
void check_matrix(const void* p, int rows, int cols, int ld, cudaDataType t, bool write, const char* what) {
  const Alloc* a = find_alloc((uintptr_t)p);
  size_t bytes = rows && cols ? ((size_t)(cols - 1) * ld + rows) * width(t) : 0;
  if (!bytes) return;
  if (!a || a->pinned || a->freed || (uintptr_t)p + bytes > a->base + a->size) {
    report("out-of-bounds", "cublas %s: %p + %zu bytes is not device memory", what, p, bytes);
    return;
  }
  if (checker_on)
    for (int c = 0; c < cols; ++c)
      checker_range((const char*)p + (size_t)c * ld * width(t), (size_t)rows * width(t), write, what);
}
void gemm(cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, float al, const void* a, cudaDataType at,
          int lda, const void* b, cudaDataType bt, int ldb, float be, void* c, cudaDataType ct, int ldc) {
  check_matrix(a, ta == CUBLAS_OP_N ? m : k, ta == CUBLAS_OP_N ? k : m, lda, at, false, "A");
  check_matrix(b, tb == CUBLAS_OP_N ? k : n, tb == CUBLAS_OP_N ? n : k, ldb, bt, false, "B");
  if (be != 0) check_matrix(c, m, n, ldc, ct, false, "C");
  check_matrix(c, m, n, ldc, ct, true, "C");
  std::vector<float> A((size_t)m * k), B((size_t)k * n);  // A by rows, B by columns
  for (int i = 0; i < m; ++i)
    for (int q = 0; q < k; ++q)
      A[(size_t)i * k + q] = get(a, at, ta == CUBLAS_OP_N ? (size_t)q * lda + i : (size_t)i * lda + q);
  for (int j = 0; j < n; ++j)
    for (int q = 0; q < k; ++q)
      B[(size_t)j * k + q] = get(b, bt, tb == CUBLAS_OP_N ? (size_t)j * ldb + q : (size_t)q * ldb + j);
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < m; ++i) {
      float s = 0;
      const float *x = &A[(size_t)i * k], *y = &B[(size_t)j * k];
      for (int q = 0; q < k; ++q) s += x[q] * y[q];
      size_t o = (size_t)j * ldc + i;
      put(c, ct, o, al * s + (be != 0 ? be * get(c, ct, o) : 0));
    }
}
bool dims_ok(cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k, int lda, int ldb, int ldc) {
  bool ok = m >= 0 && n >= 0 && k >= 0 && lda >= std::max(1, ta == CUBLAS_OP_N ? m : k) &&
            ldb >= std::max(1, tb == CUBLAS_OP_N ? k : n) && ldc >= std::max(1, m);
  if (!ok) report("cublas-args", "gemm m %d n %d k %d lda %d ldb %d ldc %d", m, n, k, lda, ldb, ldc);
  return ok;
}
}  // namespace
extern "C" {
const char* cublasGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
         : status == CUBLAS_STATUS_INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
                                                 : "CUBLAS_STATUS_NOT_SUPPORTED";
}
const char* cublasGetStatusString(cublasStatus_t status) {
  return cublasGetStatusName(status);
}
cublasStatus_t cublasCreate_v2(cublasHandle_t* h) {
  *h = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t h) {
  delete h;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s) {
  h->stream = s;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                          int k, const void* al, const void* a, cudaDataType at, int lda, long long sa,
                                          const void* b, cudaDataType bt, int ldb, long long sb, const void* be,
                                          void* c, cudaDataType ct, int ldc, long long sc, int batch,
                                          cublasComputeType_t compute, cublasGemmAlgo_t) {
  if (!type_ok(at) || !type_ok(bt) || !type_ok(ct) || at != bt ||
      (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32)) {
    report("cublas-args", "unsupported type combination");
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (!dims_ok(ta, tb, m, n, k, lda, ldb, ldc)) return CUBLAS_STATUS_INVALID_VALUE;
  float alpha = *(const float*)al, beta = *(const float*)be;  // host scalars, read at the call
  enqueue(h->stream, "cublasGemm", [=] {
    for (int i = 0; i < batch; ++i)
      gemm(ta, tb, m, n, k, alpha, (const char*)a + (size_t)(i * sa) * width(at), at, lda,
           (const char*)b + (size_t)(i * sb) * width(bt), bt, ldb, beta, (char*)c + (size_t)(i * sc) * width(ct), ct,
           ldc);
    return OpState::done;
  });
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n, int k,
                            const void* al, const void* a, cudaDataType at, int lda, const void* b, cudaDataType bt,
                            int ldb, const void* be, void* c, cudaDataType ct, int ldc, cublasComputeType_t comp,
                            cublasGemmAlgo_t algo) {
  return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, al, a, at, lda, 0, b, bt, ldb, 0, be, c, ct, ldc, 0, 1, comp,
                                    algo);
}
cublasStatus_t cublasGemmGroupedBatchedEx(cublasHandle_t h, const cublasOperation_t ta[], const cublasOperation_t tb[],
                                          const int m[], const int n[], const int k[], const void* al,
                                          const void* const A[], cudaDataType_t at, const int lda[],
                                          const void* const B[], cudaDataType_t bt, const int ldb[], const void* be,
                                          void* const C[], cudaDataType_t ct, const int ldc[], int groups,
                                          const int size[], cublasComputeType_t) {
  struct G {
    cublasOperation_t ta, tb;
    int m, n, k, lda, ldb, ldc, size;
    float al, be;
  };
  std::vector<G> g;
  int total = 0;
  for (int i = 0; i < groups; ++i) {
    if (!dims_ok(ta[i], tb[i], m[i], n[i], k[i], lda[i], ldb[i], ldc[i])) return CUBLAS_STATUS_INVALID_VALUE;
    g.push_back({ta[i], tb[i], m[i], n[i], k[i], lda[i], ldb[i], ldc[i], size[i], ((const float*)al)[i],
                 ((const float*)be)[i]});
    total += size[i];
  }
  enqueue(h->stream, "cublasGemmGroupedBatchedEx", [=] {  // the pointer arrays live in device memory
    for (const void* p : {(const void*)A, (const void*)B, (const void*)C}) {
      const Alloc* a = find_alloc((uintptr_t)p);
      if (!a || a->pinned || (uintptr_t)p + (size_t)total * 8 > a->base + a->size) {
        report("cublas-args", "pointer array %p is not device memory", p);
        return OpState::done;
      }
      if (checker_on) checker_range(p, (size_t)total * 8, false, "pointer array");
    }
    int q = 0;
    for (auto& x : g)
      for (int i = 0; i < x.size; ++i, ++q)
        gemm(x.ta, x.tb, x.m, x.n, x.k, x.al, A[q], at, x.lda, B[q], bt, x.ldb, x.be, C[q], ct, x.ldc);
    return OpState::done;
  });
  return CUBLAS_STATUS_SUCCESS;
}
}
