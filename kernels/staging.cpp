#include "kernels/staging.h"

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
std::vector<double> download_as(Ops& ops, const Tensor& tensor) {
  std::vector<T> raw(static_cast<size_t>(tensor.elements()));
  ops.device().download(tensor, raw.data());
  std::vector<double> values;
  values.reserve(raw.size());
  for (const T& v : raw) {
    if constexpr (std::is_same_v<T, bf16>)
      values.push_back(static_cast<float>(v));
    else
      values.push_back(static_cast<double>(v));
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

std::vector<double> download_values(Ops& ops, const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::f64:
      return download_as<double>(ops, tensor);
    case DType::f32:
      return download_as<float>(ops, tensor);
    case DType::bf16:
      return download_as<bf16>(ops, tensor);
    case DType::i32:
      return download_as<int32_t>(ops, tensor);
    default:
      fail("no download from a tensor {}", tensor.to_string());
  }
}

}  // namespace strand
