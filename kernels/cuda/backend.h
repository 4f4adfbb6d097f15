#pragma once
// The CUDA backend as the rest of the program sees it. A program that is linked without it has absent.cpp in its place.
#include <memory>

#include "kernels/device.h"

namespace strand {

struct CudaDeviceOptions {
  int gpu = 0;  ///< number of the GPU, of those that the process can see
};

/// Throws Error when the GPU cannot be used, or when this program has no CUDA backend: what is wrong, and what to do.
std::unique_ptr<Device> make_cuda_device(const CudaDeviceOptions& options);

/// How many GPUs this process can use; 0 without a usable driver and without the backend.
int cuda_device_count();

/// What a plan has to know of an NVIDIA GPU.
DeviceTraits cuda_traits();

}  // namespace strand
