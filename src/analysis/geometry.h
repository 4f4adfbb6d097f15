#pragma once
// What Proposition 5.1 of arXiv 2602.14159 assumes of routers and their inputs, measured (docs/analysis.md, "Geometry
// of the router").
#include <cstdint>
#include <span>
#include <vector>

namespace strand {

/// Rows of `width` numbers.
struct RowsView {
  std::span<const double> values;
  int64_t width = 0;
  int64_t rows() const { return static_cast<int64_t>(values.size()) / width; }
  std::span<const double> operator[](int64_t row) const {
    return values.subspan(static_cast<size_t>(row * width), static_cast<size_t>(width));
  }
};

/// 2-norms of the rows.
std::vector<double> row_norms(const RowsView& rows);

/// Cosines between the inputs of two routers, lower and upper, of the same tokens.
struct InputCosine {
  double same_token = 0;
  double other_token = 0;  ///< of each token's lower input and the next token's upper one

  InputCosine& operator+=(const InputCosine& other);
};
/// Summed over the tokens, the last of which has the first as its next one.
InputCosine summed_input_cosine(const RowsView& lower, const std::vector<double>& lower_norms, const RowsView& upper,
                                const std::vector<double>& upper_norms);

/// Cosines between inputs and the router's weights: sums over tokens.
struct ChoiceCosine {
  double chosen = 0;  ///< the largest with a selected expert
  double any = 0;     ///< the mean of all experts

  ChoiceCosine& operator+=(const ChoiceCosine& other);
};
/// One token: its logits q [E] = ⟨x, r_e⟩, ‖x‖ and ‖r_e‖ [E].
ChoiceCosine choice_cosine(std::span<const double> q, double x_norm, const std::vector<double>& router_norms,
                           std::span<const uint16_t> chosen);

/// |cos(r_e, r_ν)| over e ≠ ν; 0 for a single expert.
struct RouterCosine {
  double mean = 0, max = 0;
};
RouterCosine router_cosine(const RowsView& router);

}  // namespace strand
