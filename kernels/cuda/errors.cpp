#include "kernels/cuda/errors.h"

#include "core/error.h"

namespace strand::gpu {

void throw_error(cudaError_t error, const char* what) {
  fail("cuda: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

void throw_error(cublasStatus_t status, const char* what) {
  fail("cuda: {}: {} ({})", what, cublasGetStatusString(status), cublasGetStatusName(status));
}

void throw_unsupported(DType type) {
  fail("the cuda backend computes in f32 or bf16, not {}", to_string(type));
}

void require_at_most(int64_t most, int64_t number, const char* what, const char* operation) {
  require(number <= most, "{}: {} {}, and the CUDA backend takes up to {}", operation, number, what, most);
}

}  // namespace strand::gpu
