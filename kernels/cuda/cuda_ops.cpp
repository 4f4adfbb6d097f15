#include "kernels/cuda/cuda_ops.h"

#include "core/error.h"
#include "kernels/cuda/grouped_cublas.h"

namespace strand {

CudaOps::CudaOps(CudaDevice& device)
    : Ops(device),
      cuda_(device),
      stream_(device.stream(Stream::compute)),
      blas_(device.blas()),
      multiprocessors_(device.multiprocessors()),
      workspaces_(device.multiprocessors()) {
  if (device.options().grouped_gemm == GroupedGemm::cublas) grouped_cublas_ = std::make_unique<GroupedCublas>(device);
}

CudaOps::~CudaOps() = default;

void* CudaOps::planned_workspace(size_t bytes, size_t planned) {
  require(bytes <= planned, "a workspace of {} bytes, where {} are planned", bytes, planned);
  return cuda_.workspace(planned);
}

}  // namespace strand
