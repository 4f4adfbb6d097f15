// What can be said of an NVIDIA GPU without having one, and without CUDA.
#include "kernels/cuda/backend.h"
#include "kernels/cuda/workspaces.h"

namespace strand {

DeviceTraits cuda_traits(int multiprocessors) {
  // The rows of a tensor-core tile: a tile holds rows of one expert only.
  return {.row_alignment = 16,
          .workspaces = std::make_shared<gpu::CudaWorkspaces>(multiprocessors),
          .library_bytes = gpu::blas_workspace_bytes};
}

}  // namespace strand
