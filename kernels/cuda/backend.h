#pragma once
// The CUDA backend as the rest of the program sees it. A program that is built without it is linked with absent.cpp.
#include <cstdint>
#include <memory>

#include "kernels/device.h"

namespace strand {

/// Which library or kernels compute the products of the row blocks of experts.
enum class GroupedGemm : uint8_t {
  automatic,  ///< device
  cublas,     ///< cuBLAS, which wants the sizes of the blocks from the host: it waits for them in every product
  device,     ///< strand's own kernels, which read the sizes on the device: the host never waits
};

struct CudaDeviceOptions {
  int gpu = 0;  ///< number of the GPU, of those that the process can see
  GroupedGemm grouped_gemm = GroupedGemm::automatic;
};

/// Throws Error when the GPU cannot be used, or when this program has no CUDA backend. It says what is wrong and what
/// to do.
std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options);

/// How many GPUs this process can use. It is 0 without a usable driver, and without the backend.
int cuda_device_count();

/// What a plan has to know of an NVIDIA GPU with so many multiprocessors (an H100 has 132).
DeviceTraits cuda_traits(int multiprocessors = 132);

}  // namespace strand
