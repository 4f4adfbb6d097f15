#include "run_report/text.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "core/number_text.h"

namespace strand::run_report {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string number_text(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-4 || size >= 1e7)) return fmt::format("{:.{}e}", value, digits - 1);
  const int before = size < 1 ? 1 : static_cast<int>(std::log10(size)) + 1;
  const int leading = size > 0 && size < 1 ? -static_cast<int>(std::floor(std::log10(size))) - 1 : 0;
  const int after = size >= 1 ? std::max(0, digits - before) : digits + leading;
  return fmt::format("{:.{}f}", value, size == 0 ? 0 : after);
}

std::string share_text(double share) {
  if (!std::isfinite(share)) return "–";
  return fixed_text(100 * share, 1) + " %";
}

}  // namespace strand::run_report
