#pragma once
// Between host numbers and device tensors of any floating-point type: for set-up, verification and reports, not for
// steps.
#include <vector>

#include "kernels/ops.h"

namespace strand {

/// Rounds `values` to the tensor's type and uploads them. The sizes must agree.
void upload_values(Ops& ops, const Tensor& tensor, const std::vector<double>& values);
/// `count` elements in host memory, at any address, as doubles (i32, bf16, f32 or f64).
std::vector<double> widened(const void* numbers, DType type, int64_t count);
/// Waits for what was enqueued and widens the tensor's elements (i32, bf16, f32 or f64).
std::vector<double> download_values(Ops& ops, const Tensor& tensor);

}  // namespace strand
