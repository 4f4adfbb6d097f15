#pragma once
// Options that take a number. It is read strictly: the whole word has to be a number in the option's range. (CLI11's
// own conversion reads -1 and 2^64 as 2^64 - 1, reads 010 as 8, and accepts nan in every range.)
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <type_traits>

namespace strand::cli {

/// Reads a number. Throws UsageError naming option, text and range when `text` is anything else. Reals are finite.
int64_t parse_number(const std::string& option, const std::string& text, int64_t min, int64_t max);
uint64_t parse_number(const std::string& option, const std::string& text, uint64_t min, uint64_t max);
double parse_number(const std::string& option, const std::string& text, double min, double max);

/// Registers an option whose value is from `min` to `max`, both included. `target` (a number, or std::optional of one)
/// outlives the parse; where the option is not given, it stays as it is.
template <typename Number, typename Target>
CLI::Option* add_number(CLI::App& command, const std::string& option, Target& target, Number min, Number max,
                        const std::string& help) {
  static_assert(std::is_same_v<Number, int64_t> || std::is_same_v<Number, uint64_t> || std::is_same_v<Number, double>);
  const auto read = [&target, option, min, max](const std::string& text) {
    target = static_cast<std::decay_t<decltype(target)>>(parse_number(option, text, min, max));
  };
  return command.add_option_function<std::string>(option, read, help)
      ->type_name(std::is_same_v<Number, double> ? "REAL" : "INTEGER");
}

/// Registers `--threads N`. 0 asks for all cores, as threads_for() of core/cores.h counts them.
CLI::Option* add_threads(CLI::App& command, int& threads);

}  // namespace strand::cli
