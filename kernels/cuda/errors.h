#pragma once
// Errors of CUDA and cuBLAS as strand::Error.
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "core/dtype.h"

namespace strand::gpu {

/// Throws Error: `what` (an operation, a kernel or a call) failed with `error`.
[[noreturn]] void throw_error(cudaError_t error, const char* what);
[[noreturn]] void throw_error(cublasStatus_t status, const char* what);

/// Throws Error, naming `what`, unless the call succeeded.
inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw_error(error, what);
}
inline void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw_error(status, what);
}

/// Throws Error: the CUDA backend computes in f32 or bf16, not in `type`.
[[noreturn]] void throw_unsupported(DType type);

/// Throws Error, naming the operation and the number, when it is above what a kernel's shared memory holds. (nvcc does
/// not accept the checked format strings of core/error.h.)
void require_at_most(int64_t most, int64_t number, const char* what, const char* operation);

}  // namespace strand::gpu
