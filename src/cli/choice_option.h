#pragma once
// Options that take one of a few words. Help shows them as `--precision fp32|bf16`, and shells complete them.
#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace strand::cli {

/// The place of `text` among `words`; throws UsageError naming option, text, words and the nearest of them.
size_t parse_choice(const std::string& option, const std::string& text, const std::vector<std::string>& words);

/// "fp32|bf16", as help shows them.
std::string choice_text(const std::vector<std::string>& words);

/// Registers an option whose value is the second of the pair with the word that is given. `target` outlives the parse;
/// where the option is not given, it stays as it is. An option may have several names ("--type,--dtype"), of which
/// messages say the first.
template <typename Value>
CLI::Option* add_choice(CLI::App& command, const std::string& option, Value& target,
                        const std::vector<std::pair<std::string, Value>>& choices, const std::string& help) {
  std::vector<std::string> words;
  std::vector<Value> values;
  for (const auto& [word, value] : choices) {
    words.push_back(word);
    values.push_back(value);
  }
  const auto read = [&target, option = option.substr(0, option.find(',')), words, values](const std::string& text) {
    target = values[parse_choice(option, text, words)];
  };
  return command.add_option_function<std::string>(option, read, help)->type_name(choice_text(words));
}

/// The same for an option whose value is the word itself.
CLI::Option* add_choice(CLI::App& command, const std::string& option, std::string& target,
                        const std::vector<std::string>& words, const std::string& help);

}  // namespace strand::cli
