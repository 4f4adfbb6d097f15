#include "model/parameter_layout.h"

#include <algorithm>

namespace strand {

namespace {
int64_t rounded_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}
}  // namespace

ParameterLayout::ParameterLayout(std::span<const int64_t> sizes, int64_t bucket_elements, int parts) {
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t padded = rounded_up(sizes[i], alignment);
    if (buckets.empty() || buckets.back().elements + padded > bucket_elements) buckets.push_back({});
    buckets.back().members.push_back(i);
    buckets.back().elements += padded;
  }
  for (Bucket& bucket : buckets) {
    bucket.first = elements;
    for (const size_t member : bucket.members) {
      first.push_back(elements);
      elements += rounded_up(sizes[member], alignment);
    }
    bucket.elements = rounded_up(bucket.elements, parts * alignment);
    elements = bucket.first + bucket.elements;
  }
}

ElementRange intersection(const ElementRange& a, const ElementRange& b) {
  const int64_t first = std::max(a.first, b.first), end = std::min(a.end(), b.end());
  return {first, std::max(int64_t{0}, end - first)};
}

}  // namespace strand
