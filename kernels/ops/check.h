#pragma once
// Argument checks of operations: each op::check() states its shapes once, for every backend.
#include "core/error.h"
#include "core/tensor.h"
#include "kernels/ops/step_numbers.h"

namespace strand {

/// Collects the name of the operation, so that a failed expectation reads "Linear: weight is f32 [3, 4], expected bf16
/// [3, 5]".
class OpCheck {
 public:
  explicit OpCheck(const char* operation) : operation_(operation) {}

  /// The tensor must be there, with this type and shape.
  void tensor(const char* field, const Tensor& t, DType dtype, const Shape& shape) const {
    present(field, t);
    if (t.dtype != dtype || !(t.shape == shape))
      fail("{}: {} is {}, expected {} {}", operation_, field, t.to_string(), to_string(dtype), shape.to_string());
  }
  void optional(const char* field, const Tensor& t, DType dtype, const Shape& shape) const {
    if (t) tensor(field, t, dtype, shape);
  }
  void absent(const char* field, const Tensor& t) const {
    require(!t, "{}: {} must not be given here", operation_, field);
  }
  void present(const char* field, const Tensor& t) const { require(bool(t), "{}: {} is missing", operation_, field); }
  void rank(const char* field, const Tensor& t, int rank) const {
    present(field, t);
    require(t.shape.rank() == rank, "{}: {} is {}, expected {} dimensions", operation_, field, t.to_string(), rank);
  }
  /// act: bf16, f32 or f64.
  DType act(const char* field, const Tensor& t) const {
    present(field, t);
    require(t.dtype == DType::bf16 || t.dtype == DType::f32 || t.dtype == DType::f64,
            "{}: {} is {}, not a floating-point activation", operation_, field, t.to_string());
    return t.dtype;
  }
  /// acc: f32 or f64.
  DType acc(const char* field, const Tensor& t) const {
    present(field, t);
    require(t.dtype == DType::f32 || t.dtype == DType::f64, "{}: {} is {}, not an accumulation type", operation_, field,
            t.to_string());
    return t.dtype;
  }
  /// The numbers of a step (ops/step_numbers.h).
  void numbers(const Tensor& t) const { tensor("numbers", t, DType::f64, {step_number_count}); }
  void sample(const TokenSample& s) const {
    holds(s.fraction > 0 && s.fraction <= 1, "the sample's fraction is not in (0, 1]");
    if (s.fraction < 1 || s.numbers) numbers(s.numbers);
  }
  void holds(bool condition, const char* what) const { require(condition, "{}: {}", operation_, what); }

 private:
  const char* operation_;
};

/// The shape of the Gram matrices of the rows of `slots` [T, K].
inline Shape gram_shape(const Tensor& slots) {
  return {slots.dim(0), slots.dim(1), slots.dim(1)};
}

}  // namespace strand
