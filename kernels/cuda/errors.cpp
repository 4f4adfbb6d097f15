#include "kernels/cuda/errors.h"

#include "core/error.h"
#include "kernels/cuda/trail.h"

namespace strand::gpu {

namespace {
/// Whether the error is one of work that was enqueued earlier. After it, the GPU does nothing more for this process.
bool is_fault(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorAssert:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

[[noreturn]] void throw_fault(cudaError_t error, const char* what) {
  throw DeviceFault(fmt::format("cuda: {} ({}){}; it showed at: {}", cudaGetErrorString(error), cudaGetErrorName(error),
                                CudaTrail::where_device_is(), what));
}
}  // namespace

void throw_error(cudaError_t error, const char* what) {
  if (is_fault(error)) throw_fault(error, what);
  fail("cuda: {}: {} ({}){}", what, cudaGetErrorString(error), cudaGetErrorName(error), CudaTrail::where_host_is());
}

void throw_error(cublasStatus_t status, const char* what) {
  // cuBLAS does not tell whether the error is that of a kernel before it.
  if (const cudaError_t error = cudaPeekAtLastError(); is_fault(error)) throw_fault(error, what);
  fail("cuda: {}: {} ({}){}", what, cublasGetStatusString(status), cublasGetStatusName(status),
       CudaTrail::where_host_is());
}

void throw_unsupported(DType type) {
  fail("the cuda backend computes in f32 or bf16, not {}", to_string(type));
}

void require_at_most(int64_t most, int64_t number, const char* what, const char* operation) {
  require(number <= most, "{}: {} {}, and the CUDA backend takes up to {}", operation, number, what, most);
}

}  // namespace strand::gpu
