#include "export/row_order.h"

namespace strand::hf {

namespace {
/// Rows come in blocks, of which the last `turning` rows are rotated.
struct Blocks {
  int64_t rows = 0;  ///< of a block; 0 = no row is rotated
  int64_t turning = 0;
};

Blocks blocks_of(Layout layout, const ModelConfig& m) {
  switch (layout) {
    case Layout::rotary_interleaved:
      return {m.head_dim, m.head_dim};
    case Layout::latent_queries:
      return {m.nope_head_dim + m.rope_head_dim, m.rope_head_dim};
    case Layout::latent_and_key:
      return {m.kv_latent + m.rope_head_dim, m.rope_head_dim};
    case Layout::same:
    case Layout::row:
    case Layout::latent_keys:
    case Layout::latent_values:
      return {};
  }
  return {};
}

/// `place(i, half)` is the place of rotated row i among the rotated rows.
template <typename Place>
RowOrder rotated_rows(const Blocks& blocks, const Place& place) {
  if (blocks.rows == 0) return {};
  return [blocks, place](int64_t row) {
    const int64_t first = row / blocks.rows * blocks.rows + blocks.rows - blocks.turning;  // that is rotated
    return row < first ? row : first + place(row - first, blocks.turning / 2);
  };
}
}  // namespace

RowOrder their_rows(Layout layout, const ModelConfig& model) {
  if (layout == Layout::latent_values)
    return [keys = model.nope_head_dim, values = model.value_head_dim](int64_t row) {
      return row / values * (keys + values) + keys + row % values;
    };
  return rotated_rows(blocks_of(layout, model), [](int64_t i, int64_t half) { return i / 2 + (i % 2) * half; });
}

RowOrder our_rows(Layout layout, const ModelConfig& model) {
  return rotated_rows(blocks_of(layout, model),
                      [](int64_t i, int64_t half) { return i < half ? 2 * i : 2 * (i - half) + 1; });
}

ElementOrder their_elements(Layout layout, const ModelConfig& model) {
  if (layout != Layout::latent_keys) return {};
  return [keys = model.nope_head_dim, values = model.value_head_dim, latent = model.kv_latent](int64_t i) {
    const int64_t head = i / (latent * keys), column = i / keys % latent, row = i % keys;
    return (head * (keys + values) + row) * latent + column;
  };
}

}  // namespace strand::hf
