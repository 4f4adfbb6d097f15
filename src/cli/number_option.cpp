#include "cli/number_option.h"

#include <charconv>

#include "core/error.h"

namespace strand::cli {

namespace {
template <typename Number>
Number parse(const std::string& option, const std::string& text, Number min, Number max, const char* kind) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // All comparisons with nan are false, so the condition says what is accepted, not what is refused.
  if (error == std::errc() && end == text.data() + text.size() && value >= min && value <= max) return value;
  throw UsageError(fmt::format("{}: '{}' is not {} from {} to {}", option, text, kind, min, max));
}
}  // namespace

int64_t parse_number(const std::string& option, const std::string& text, int64_t min, int64_t max) {
  return parse(option, text, min, max, "a whole number");
}
uint64_t parse_number(const std::string& option, const std::string& text, uint64_t min, uint64_t max) {
  return parse(option, text, min, max, "a whole number");
}
double parse_number(const std::string& option, const std::string& text, double min, double max) {
  return parse(option, text, min, max, "a number");
}

CLI::Option* add_threads(CLI::App& command, int& threads) {
  return add_number(command, "--threads", threads, int64_t{0}, int64_t{4096},
                    "CPU threads; 0 = every core that this process may use (default)");
}

}  // namespace strand::cli
