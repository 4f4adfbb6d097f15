#pragma once
// The one rule of every selection in docs/mathematics.md: the K largest, ties to the lower index.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace strand::reference {

/// Indices of the k largest of value(0), …, value(n − 1), by descending value.
template <typename Value>
std::vector<int32_t> top_k(int64_t n, int64_t k, const Value& value) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  const auto precedes = [&](int32_t a, int32_t b) { return value(a) > value(b) || (value(a) == value(b) && a < b); };
  std::partial_sort(order.begin(), order.begin() + k, order.end(), precedes);
  order.resize(static_cast<size_t>(k));
  return order;
}

}  // namespace strand::reference
