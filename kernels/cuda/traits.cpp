// What can be said of an NVIDIA GPU without having one, and without CUDA.
#include "kernels/cuda/backend.h"
#include "kernels/cuda/workspaces.h"

namespace strand {

DeviceTraits cuda_traits(int multiprocessors) {
  // The rows of a tensor-core tile: a tile holds rows of one expert only.
  return {.row_alignment = 16,
          .workspaces = std::make_shared<gpu::CudaWorkspaces>(multiprocessors),
          .library_bytes = gpu::blas_workspace_bytes,
          // 512 MiB of logits in f32. From a thousand rows on, the products of a chunk take longer than the gradient of
          // the head takes to be read and written: 2 operations a row and weight against 8 bytes a weight.
          .head_chunk = {.logits = int64_t{1} << 27, .least_rows = 1024}};
}

}  // namespace strand
