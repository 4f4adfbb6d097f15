#pragma once
// Turns the element type of a tensor into a C++ type that kernels compute with.
#include <type_traits>

#include "core/tensor.h"
#include "kernels/cuda/errors.h"
#include "kernels/cuda/gpu.cuh"

namespace strand::gpu {

template <typename T>
struct TypeTag {
  using type = T;
};

/// Calls body(TypeTag<float>) or body(TypeTag<__nv_bfloat16>).
template <typename Body>
void dispatch_act(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f32:
      return body(TypeTag<float>{});
    case DType::bf16:
      return body(TypeTag<__nv_bfloat16>{});
    default:
      throw_unsupported(dtype);
  }
}

/// The elements of a tensor in device memory, or nullptr for none. Throws Error when T is not the element type.
template <typename T>
T* data(const Tensor& tensor) {
  if (!tensor) return nullptr;
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return reinterpret_cast<T*>(tensor.as<bf16>());
  else
    return tensor.as<T>();
}

}  // namespace strand::gpu
