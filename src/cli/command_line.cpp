#include "cli/command_line.h"

#include <algorithm>
#include <cctype>

namespace strand::cli {

namespace {
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

/// A placeholder is written in capitals: FILE, KEY=VALUE. Anything else is a word to type.
bool is_placeholder(const std::string& text) {
  return std::none_of(text.begin(), text.end(), [](unsigned char c) { return std::islower(c) || std::isdigit(c); });
}

Completion completion_of(const std::string& placeholder) {
  if (placeholder == "KEY=VALUE") return Completion::setting;
  if (placeholder == "CONFIG") return Completion::yaml_file;
  if (placeholder == "DIR" || placeholder == "CHECKPOINT" || placeholder == "RUN") return Completion::directory;
  if (placeholder == "FILE" || placeholder == "PREFIX" || placeholder == "PATH" || placeholder == "INPUT")
    return Completion::file;
  return Completion::nothing;
}

void read_value(ArgumentInfo& argument, const std::string& value) {
  for (const std::string& part : split(value, '|')) {
    if (is_placeholder(part))
      argument.completion = completion_of(part);
    else
      argument.words.push_back(part);
  }
}

ArgumentInfo describe(const CLI::Option& option) {
  ArgumentInfo argument;
  argument.meaning = option.get_description();
  if (option.get_required()) argument.presence = ArgumentInfo::Presence::required;
  if (option.get_expected_max() > 1) argument.count = ArgumentInfo::Count::many;
  if (option.get_positional()) {
    argument.names = {option.get_name(true)};
    read_value(argument, argument.names[0]);
    return argument;
  }
  for (const std::string& name : option.get_snames()) argument.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) argument.names.push_back("--" + name);
  if (option.get_items_expected_max() == 0) return argument;
  argument.value = option.get_type_name();
  read_value(argument, argument.value);
  return argument;
}

bool names_a_path(const ArgumentInfo& argument) {
  return argument.completion != Completion::nothing && argument.completion != Completion::setting;
}

std::string problem_of_dash(const std::string& value) {
  if (value != "-") return "";
  return "'-' is neither standard input nor standard output here; give a name (a file that is called - is ./-)";
}
}  // namespace

std::vector<ArgumentInfo> program_options(const CLI::App& app) {
  std::vector<ArgumentInfo> options;
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_positional()) options.push_back(describe(*option));
  }
  return options;
}

std::vector<CommandInfo> program_commands(const CLI::App& app) {
  std::vector<CommandInfo> commands;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App* c) { return !c->get_group().empty(); })) {
    CommandInfo info{command->get_name(), command->get_description(), "", {}, program_options(*command)};
    for (const CLI::Option* option : command->get_options()) {
      if (option->get_positional()) info.positionals.push_back(describe(*option));
    }
    constexpr const char* marker = "Example: ";
    const std::string footer = command->get_footer();
    if (const size_t begin = footer.find(marker); begin != std::string::npos)
      info.example = split(footer.substr(begin + std::char_traits<char>::length(marker)), '\n')[0];
    commands.push_back(std::move(info));
  }
  return commands;
}

void refuse_dash(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    for (CLI::Option* option : command->get_options()) {
      const ArgumentInfo argument = describe(*option);
      if (names_a_path(argument) && argument.meaning.find("- is standard input") == std::string::npos)
        option->check(problem_of_dash);
    }
  }
}

}  // namespace strand::cli
