// Stands in for the CUDA backend in programs that are built without it.
#include "core/error.h"
#include "kernels/cuda/backend.h"

namespace strand {

std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions&) {
  fail(
      "run.device: cuda, but this program was built without it: build with the CUDA Toolkit 12.4 or later "
      "(cmake -DSTRAND_CUDA=ON), or use device: cpu");
}

int cuda_device_count() {
  return 0;
}

}  // namespace strand
