#pragma once
// A Tensor is a view: address, element type and shape of contiguous row-major elements. It owns nothing and is copied
// freely. Its address may belong to a device that the host cannot read; under the plan backend there is no memory at
// all behind it. So only backends read and write elements. Host code that owns host memory uses as<T>().
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace strand {

/// Up to four dimensions, outermost first. Rank 0 holds one element.
class Shape {
 public:
  static constexpr int max_rank = 4;
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t elements() const;
  bool operator==(const Shape&) const = default;
  std::vector<int64_t> dims() const { return {dims_.begin(), dims_.begin() + rank_}; }
  std::string to_string() const;  ///< "[16, 32]"

 private:
  std::array<int64_t, max_rank> dims_{};
  int rank_ = 0;
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  /// A default-constructed tensor means "none" wherever an argument is optional.
  explicit operator bool() const { return data != nullptr; }
  int64_t elements() const { return data ? shape.elements() : 0; }
  size_t bytes() const { return static_cast<size_t>(elements()) * size_of(dtype); }
  int64_t dim(int i) const { return shape[i]; }

  /// The elements, in host memory. Throws Error when T is not the element type.
  template <typename T>
  T* as() const {
    if (dtype != dtype_of<T>()) wrong_type(dtype_of<T>());
    return static_cast<T*>(data);
  }

  /// The same elements under another shape of equal size.
  Tensor view(const Shape& other) const;
  /// Rows [begin, end) of the outermost dimension.
  Tensor rows(int64_t begin, int64_t end) const;
  /// Element i of the outermost dimension, with that dimension dropped.
  Tensor operator[](int64_t i) const;
  std::string to_string() const;  ///< "f32 [16, 32]"

 private:
  [[noreturn]] void wrong_type(DType asked) const;
};

}  // namespace strand
