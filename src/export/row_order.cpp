#include "export/row_order.h"

namespace strand::hf {

RowOrder their_rows(Layout layout, const ModelConfig& model) {
  if (layout != Layout::rotary_interleaved) return {};
  return [head = model.head_dim](int64_t row) {
    const int64_t first = row / head * head, i = row % head;
    return first + i / 2 + (i % 2) * (head / 2);
  };
}

RowOrder our_rows(Layout layout, const ModelConfig& model) {
  if (layout != Layout::rotary_interleaved) return {};
  return [head = model.head_dim](int64_t row) {
    const int64_t first = row / head * head, i = row % head, half = head / 2;
    return first + (i < half ? 2 * i : 2 * (i - half) + 1);
  };
}

}  // namespace strand::hf
