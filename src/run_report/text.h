#pragma once
// Words and numbers of a page.
#include <string>
#include <string_view>

namespace strand::run_report {

/// With & < > " written as entities.
std::string escaped(std::string_view text);
/// `digits` significant ones, without an exponent between 1e-4 and 1e7; "–" when it is not finite.
std::string number_text(double value, int digits = 4);
/// 0.1234 -> "12.3 %"
std::string share_text(double share);

}  // namespace strand::run_report
