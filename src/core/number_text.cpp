#include "core/number_text.h"

#include <fmt/core.h>

#include <cmath>
#include <cstddef>
#include <vector>

namespace strand {

std::string fixed_text(double value, int decimals) {
  if (value == 0) return "0";  // -0 too
  if (std::abs(value) < std::pow(10.0, 1 - decimals)) return fmt::format("{:.2g}", value);
  return fmt::format("{:.{}f}", value, decimals);
}

std::string signed_text(double value, int decimals) {
  return (value > 0 ? "+" : "") + fixed_text(value, decimals);
}

std::string grouped_digits(int64_t number) {
  std::string digits = std::to_string(number);
  const auto first = static_cast<std::ptrdiff_t>(number < 0);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > first; at -= 3)
    digits.insert(digits.begin() + at, ',');
  return digits;
}

namespace {
std::string scaled(double number, double base, const std::vector<const char*>& units) {
  size_t unit = 0;
  while (std::abs(number) >= base && unit + 1 < units.size()) {
    number /= base;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} {}", number, units[0]) : fmt::format("{:.2f} {}", number, units[unit]);
}
}  // namespace

std::string bytes_text(double bytes) {
  return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"});
}

std::string si_text(double number) {
  std::string text = scaled(number, 1000, {"", "k", "M", "G", "T", "P", "E"});
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

std::string percent_text(double share) {
  return fixed_text(100 * share, 1) + " %";
}

}  // namespace strand
