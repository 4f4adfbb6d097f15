#pragma once
// What the files of the runtime's C interface share.
#include <cuda_runtime.h>

namespace gpu_emulation {

/// Keeps an error for cudaGetLastError, and gives it back.
cudaError_t remember(cudaError_t error);

/// The errors that the emulation gives, with NVIDIA's texts.
#define GPU_EMULATION_EACH_ERROR(X)                                                                    \
  X(cudaSuccess, "no error")                                                                           \
  X(cudaErrorInvalidValue, "invalid argument")                                                         \
  X(cudaErrorMemoryAllocation, "out of memory")                                                        \
  X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                           \
  X(cudaErrorInvalidDevice, "invalid device ordinal")                                                  \
  X(cudaErrorInvalidConfiguration, "invalid configuration argument")                                   \
  X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                         \
  X(cudaErrorIllegalState, "the operation cannot be performed in the present state")                   \
  X(cudaErrorNotReady, "device not ready")                                                             \
  X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                               \
  X(cudaErrorLaunchFailure, "unspecified launch failure")                                              \
  X(cudaErrorECCUncorrectable, "uncorrectable ECC error encountered")                                  \
  X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")             \
  X(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture")      \
  X(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work")                              \
  X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream") \
  X(cudaErrorGraphExecUpdateFailure,                                                                   \
    "the graph update was not performed because it included changes which "                            \
    "violated constraints specific to instantiated graph update")                                      \
  X(cudaErrorUnknown, "unknown error")

}  // namespace gpu_emulation
