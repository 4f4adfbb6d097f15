#pragma once
// Tensors as the textbook writes them: `x(t, d)`. Host memory, row-major; bounds are asserted in debug builds.
#include <cassert>
#include <cstdint>

#include "core/tensor.h"

namespace strand::reference {

/// A tensor of `rank` dimensions with elements T. Made from "none" it is false and must not be indexed.
template <typename T, int rank>
class View {
 public:
  explicit View(const Tensor& tensor) : data_(tensor ? tensor.as<T>() : nullptr) {
    assert(!tensor || tensor.shape.rank() == rank);
    for (int i = 0; i < rank; ++i) dims_[i] = tensor ? tensor.dim(i) : 0;
  }
  explicit operator bool() const { return data_ != nullptr; }
  int64_t dim(int i) const { return dims_[i]; }

  template <typename... Index>
  T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == rank);
    const int64_t indices[] = {static_cast<int64_t>(index)...};
    int64_t offset = 0;
    for (int i = 0; i < rank; ++i) {
      assert(0 <= indices[i] && indices[i] < dims_[i]);
      offset = offset * dims_[i] + indices[i];
    }
    return data_[offset];
  }

 private:
  T* data_;
  int64_t dims_[rank];
};

inline View<double, 1> vector(const Tensor& t) {
  return View<double, 1>(t);
}
inline View<double, 2> matrix(const Tensor& t) {
  return View<double, 2>(t);
}
inline View<double, 3> cube(const Tensor& t) {
  return View<double, 3>(t);
}
inline View<double, 4> heads(const Tensor& t) {
  return View<double, 4>(t);
}
/// All elements in one row, whatever the shape.
inline View<double, 1> flat(const Tensor& t) {
  return View<double, 1>(t.view({t.elements()}));
}
inline double& scalar(const Tensor& t) {
  return *t.as<double>();
}
inline View<int32_t, 1> ids(const Tensor& t) {
  return View<int32_t, 1>(t);
}
inline View<int32_t, 2> id_matrix(const Tensor& t) {
  return View<int32_t, 2>(t);
}

}  // namespace strand::reference
