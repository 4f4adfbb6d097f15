#pragma once
// From a tensor's element type to a C++ type.
#include "core/error.h"
#include "core/tensor.h"

namespace strand {

template <typename T>
struct TypeTag {
  using type = T;
};

/// Calls body(TypeTag<float>) or body(TypeTag<bf16>).
template <typename Body>
void dispatch_act(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::f32:
      return body(TypeTag<float>{});
    case DType::bf16:
      return body(TypeTag<bf16>{});
    default:
      fail("the cpu backend computes in f32 or bf16, not {}", to_string(dtype));
  }
}

}  // namespace strand
