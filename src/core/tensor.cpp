#include "core/tensor.h"

#include "core/error.h"

namespace strand {

Shape::Shape(std::initializer_list<int64_t> dims) {
  require(dims.size() <= max_rank, "a tensor has at most {} dimensions, not {}", int(max_rank), dims.size());
  for (int64_t d : dims) {
    require(d >= 0, "negative dimension {} in a shape", d);
    dims_[static_cast<size_t>(rank_++)] = d;
  }
}

int64_t Shape::elements() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i)
    if (__builtin_mul_overflow(n, dims_[static_cast<size_t>(i)], &n))
      fail("a tensor of shape {} is too large", to_string());
  return n;
}

std::string Shape::to_string() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
  return s + "]";
}

std::string Tensor::to_string() const {
  return strand::to_string(dtype) + " " + shape.to_string();
}

Tensor Tensor::view(const Shape& other) const {
  require(other.elements() == shape.elements(), "cannot view {} as {}", shape.to_string(), other.to_string());
  return {data, dtype, other};
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  require(shape.rank() >= 1 && 0 <= begin && begin <= end && end <= shape[0], "rows [{}, {}) of {}", begin, end,
          shape.to_string());
  Shape s;
  const int64_t n = end - begin;
  switch (shape.rank()) {
    case 1:
      s = Shape{n};
      break;
    case 2:
      s = Shape{n, shape[1]};
      break;
    case 3:
      s = Shape{n, shape[1], shape[2]};
      break;
    default:
      s = Shape{n, shape[1], shape[2], shape[3]};
      break;
  }
  const int64_t row = shape[0] ? shape.elements() / shape[0] : 0;
  return {static_cast<std::byte*>(data) + static_cast<size_t>(begin * row) * size_of(dtype), dtype, s};
}

Tensor Tensor::operator[](int64_t i) const {
  const Tensor one = rows(i, i + 1);
  switch (shape.rank()) {
    case 1:
      return one.view(Shape{});
    case 2:
      return one.view(Shape{shape[1]});
    case 3:
      return one.view(Shape{shape[1], shape[2]});
    default:
      return one.view(Shape{shape[1], shape[2], shape[3]});
  }
}

void Tensor::wrong_type(DType asked) const {
  fail("tensor {} read as {}", to_string(), strand::to_string(asked));
}

}  // namespace strand
