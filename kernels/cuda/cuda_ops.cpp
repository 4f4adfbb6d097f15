#include "kernels/cuda/cuda_ops.h"

namespace strand {

CudaOps::CudaOps(CudaDevice& device)
    : Ops(device),
      cuda_(device),
      stream_(device.stream(Stream::compute)),
      blas_(device.blas()),
      multiprocessors_(device.multiprocessors()) {}

}  // namespace strand
