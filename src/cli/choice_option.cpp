#include "cli/choice_option.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/nearest.h"

namespace strand::cli {

size_t parse_choice(const std::string& option, const std::string& text, const std::vector<std::string>& words) {
  const auto place = std::find(words.begin(), words.end(), text);
  if (place != words.end()) return static_cast<size_t>(place - words.begin());
  throw UsageError(
      fmt::format("{}: '{}' is none of {}{}", option, text, fmt::join(words, ", "), did_you_mean(text, words)));
}

std::string choice_text(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, "|"));
}

CLI::Option* add_choice(CLI::App& command, const std::string& option, std::string& target,
                        const std::vector<std::string>& words, const std::string& help) {
  std::vector<std::pair<std::string, std::string>> choices;
  for (const std::string& word : words) choices.emplace_back(word, word);
  return add_choice<std::string>(command, option, target, choices, help);
}

}  // namespace strand::cli
