#include "kernels/staging.h"

#include <cstring>
#include <type_traits>

#include "core/error.h"

namespace strand {

namespace {
template <typename T>
void upload_as(Ops& ops, const Tensor& tensor, const std::vector<double>& values) {
  std::vector<T> converted;
  converted.reserve(values.size());
  for (double v : values) {
    if constexpr (std::is_same_v<T, bf16>)
      converted.push_back(bf16(static_cast<float>(v)));
    else
      converted.push_back(static_cast<T>(v));
  }
  ops.device().upload(converted.data(), tensor);
}

template <typename T>
std::vector<double> widened_from(const void* numbers, int64_t count) {
  const auto* bytes = static_cast<const std::byte*>(numbers);
  std::vector<double> values;
  values.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    T number;
    std::memcpy(&number, bytes + static_cast<size_t>(i) * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, bf16>)
      values.push_back(static_cast<float>(number));
    else
      values.push_back(static_cast<double>(number));
  }
  return values;
}
}  // namespace

void upload_values(Ops& ops, const Tensor& tensor, const std::vector<double>& values) {
  require(static_cast<int64_t>(values.size()) == tensor.elements(), "{} values for a tensor {}", values.size(),
          tensor.to_string());
  switch (tensor.dtype) {
    case DType::f64:
      return upload_as<double>(ops, tensor, values);
    case DType::f32:
      return upload_as<float>(ops, tensor, values);
    case DType::bf16:
      return upload_as<bf16>(ops, tensor, values);
    case DType::i32:
      return upload_as<int32_t>(ops, tensor, values);
    default:
      fail("no upload to a tensor {}", tensor.to_string());
  }
}

std::vector<double> widened(const void* numbers, DType type, int64_t count) {
  switch (type) {
    case DType::f64:
      return widened_from<double>(numbers, count);
    case DType::f32:
      return widened_from<float>(numbers, count);
    case DType::bf16:
      return widened_from<bf16>(numbers, count);
    case DType::i32:
      return widened_from<int32_t>(numbers, count);
    default:
      fail("numbers of type {} have no double-precision form", to_string(type));
  }
}

std::vector<double> download_values(Ops& ops, const Tensor& tensor) {
  std::vector<std::byte> raw(tensor.bytes());
  ops.device().download(tensor, raw.data());
  return widened(raw.data(), tensor.dtype, tensor.elements());
}

}  // namespace strand
