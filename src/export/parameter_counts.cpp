#include "export/parameter_counts.h"

#include <functional>
#include <numeric>

#include "config/model_size.h"
#include "export/tensor_map.h"

namespace strand::hf {

namespace {
constexpr const char* selection_bias = ".router.bias";  // how our names of it end
}

ParameterCounts count_parameters(const std::vector<TensorRule>& rules, const Config& config) {
  ParameterCounts counts{.trained = model_size(config).parameters};
  for (const MappedTensor& t : map_tensors(rules, config)) {
    const int64_t elements =
        std::accumulate(t.their_shape.begin(), t.their_shape.end(), int64_t{1}, std::multiplies<>());
    counts.written += elements;
    if (t.ours.empty()) counts.constants += elements;
    if (t.ours.ends_with(selection_bias)) counts.bias += elements;
  }
  counts.copies = counts.written - counts.trained - counts.bias - counts.constants;
  return counts;
}

}  // namespace strand::hf
