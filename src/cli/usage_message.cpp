#include "cli/usage_message.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/command_line.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/nearest.h"

namespace strand::cli {

namespace {
std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

bool is_one_of(const std::string& word, const std::vector<std::string>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// What people type who look for help or the version as other programs give them; "" = neither.
std::string option_for(const std::vector<std::string>& words, const std::vector<std::string>& commands) {
  if (words[0] == "version") return "strand --version";
  if (words[0] != "help") return "";
  return words.size() > 1 && is_one_of(words[1], commands) ? fmt::format("strand {} --help", words[1])
                                                           : "strand --help";
}

/// The command that is on the command line, or the program itself.
const CLI::App& spoken_to(const CLI::App& app) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  return commands.empty() ? app : *commands.front();
}

/// "strand train", or "strand"
std::string name_of(const CLI::App& app, const CLI::App& command) {
  return &command == &app ? app.get_name() : fmt::format("{} {}", app.get_name(), command.get_name());
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const ArgumentInfo& option : program_options(command)) {
    for (const std::string& name : option.names)
      if (name.starts_with("--")) names.push_back(name);
  }
  return names;
}

bool takes_settings(const CLI::App& command) {
  return is_one_of("--set", option_names(command));
}

bool is_config_key(const std::string& path) {
  const std::vector<KeyText> keys = config_keys();
  return std::any_of(keys.begin(), keys.end(), [&](const KeyText& key) { return key.path == path; });
}

std::string about_unknown_option(const CLI::App& command, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  const std::string key = name.substr(std::min(name.find_first_not_of('-'), name.size()));
  if (takes_settings(command) && is_config_key(key))
    return fmt::format("unknown option '{}' (a key of the configuration is set with --set {}=VALUE)", name, key);
  return fmt::format("unknown option '{}'{}", name, did_you_mean(name, option_names(command)));
}

std::string about_extra_argument(const CLI::App& command, const std::string& word) {
  const std::string path = word.substr(0, word.find('='));
  if (takes_settings(command) && path != word && is_config_key(path))
    return fmt::format("unexpected '{}' (a key of the configuration is set with --set {})", word, word);
  return fmt::format("unexpected '{}'", word);
}

/// About a command line on which every word has its place.
std::string about_the_rest(const CLI::App& app, const CLI::App& command, const CLI::ParseError& error) {
  if (error.get_name() != "RequiredError") return error.what();
  const std::vector<CommandInfo> commands = program_commands(app);
  if (&command == &app) {
    std::string names;
    for (const CommandInfo& info : commands) names += (names.empty() ? "" : ", ") + info.name;
    return fmt::format("a command is missing; there are {}", names);
  }
  for (const CommandInfo& info : commands)
    if (info.name == command.get_name() && !info.example.empty())
      return fmt::format("{}, as in: {}", error.what(), info.example);
  return error.what();
}
}  // namespace

void require_known_command(const CLI::App& app, const std::vector<std::string>& words) {
  if (words.empty() || words[0].empty() || words[0][0] == '-') return;
  const std::vector<std::string> commands = command_names(app);
  if (is_one_of(words[0], commands)) return;
  std::string answer = did_you_mean(words[0], commands);
  if (const std::string option = option_for(words, commands); !option.empty())
    answer = fmt::format(" (write '{}')", option);
  if (words[0].ends_with(".yaml") || words[0].ends_with(".yml"))
    answer = fmt::format(" (did you mean 'strand train {}'?)", words[0]);
  throw UsageError(
      fmt::format("unknown command '{}'{}", words[0], answer.empty() ? " (strand --help lists them)" : answer));
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = spoken_to(app);
  const std::vector<std::string> left = app.remaining(true);
  const auto option =
      std::find_if(left.begin(), left.end(), [](const std::string& word) { return word.size() > 1 && word[0] == '-'; });
  std::string text;
  if (option != left.end())
    text = about_unknown_option(command, *option);
  else if (!left.empty())
    text = about_extra_argument(command, left.front());
  else
    text = about_the_rest(app, command, error);
  const std::string name = name_of(app, command);
  return fmt::format("{}: {} (see {} --help)", name, text, name);
}

}  // namespace strand::cli
