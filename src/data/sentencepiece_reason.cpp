#include "data/sentencepiece_reason.h"

#include <fmt/core.h>

#include <regex>

namespace strand {

std::string sentencepiece_reason(const std::string& status) {
  // "Internal: ./src/trainer_interface.cc(660) [(a) == (b)] Words. More words --with_option."
  static const std::regex place(R"(^[A-Za-z ]+: (\S+\.(cc|h)\(\d+\) \[.*\] ?)?)");
  static const std::regex advice(R"([^.]*--[a-z_]+[^.]*\.?)");
  std::string reason = std::regex_replace(status, place, "");
  reason = std::regex_replace(reason, advice, "");
  while (!reason.empty() && (reason.back() == ' ' || reason.back() == '.')) reason.pop_back();
  return reason;
}

std::string sentencepiece_training_reason(const std::string& status) {
  static const std::regex too_many(R"(Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+))");
  static const std::regex too_few(R"(Vocabulary size is smaller than required_chars\. \d+ vs (\d+))");
  std::smatch match;
  if (std::regex_search(status, match, too_many))
    return fmt::format("the text gives {} pieces at most; ask for fewer, or give more text", match.str(1));
  if (std::regex_search(status, match, too_few))
    return fmt::format("its characters alone are {} pieces with the special and byte pieces; ask for more than that",
                       match.str(1));
  return sentencepiece_reason(status);
}

}  // namespace strand
