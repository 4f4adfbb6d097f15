#pragma once
// Numbers for people.
#include <cstdint>
#include <string>

namespace strand {

/// `value` with so many decimals. A number that they would show as zero, or by one digit, has two significant digits
/// instead: 0.12345 with four decimals is "0.1235", and 0.0000321 is "3.2e-05". Only zero itself is "0".
std::string fixed_text(double value, int decimals);

/// The same with a sign: "+0.1235", "-3.2e-05", "0".
std::string signed_text(double value, int decimals);

/// 1234567 -> "1,234,567"
std::string grouped_digits(int64_t number);
/// 1536 -> "1.50 KiB"
std::string bytes_text(double bytes);
/// 1.5e9 -> "1.50 G"
std::string si_text(double number);
/// 0.123 -> "12.3 %"
std::string percent_text(double share);

}  // namespace strand
