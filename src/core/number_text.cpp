#include "core/number_text.h"

#include <fmt/core.h>

#include <cmath>

namespace strand {

std::string fixed_text(double value, int decimals) {
  if (value == 0) return "0";  // -0 too
  if (std::abs(value) < std::pow(10.0, 1 - decimals)) return fmt::format("{:.2g}", value);
  return fmt::format("{:.{}f}", value, decimals);
}

std::string signed_text(double value, int decimals) {
  return (value > 0 ? "+" : "") + fixed_text(value, decimals);
}

}  // namespace strand
