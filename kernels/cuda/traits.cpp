// What is known of an NVIDIA GPU without one and without CUDA.
#include "kernels/cuda/backend.h"

namespace strand {

DeviceTraits cuda_traits() {
  // The rows of a tensor-core tile: a tile holds rows of one expert only.
  return {.row_alignment = 16};
}

}  // namespace strand
