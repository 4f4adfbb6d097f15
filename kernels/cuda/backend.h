#pragma once
// The CUDA backend as the rest of the program sees it.
#include <memory>

#include "kernels/ops.h"

namespace strand {

/// The CUDA backend on GPU number `gpu` of this process. Throws Error when there is none.
std::unique_ptr<Ops> make_cuda_ops(int gpu);

/// How many GPUs this process can use; 0 without a usable driver.
int cuda_device_count();

}  // namespace strand
