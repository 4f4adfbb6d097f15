#include "cli/completion.h"

#include <fmt/format.h>

#include "cli/command_line.h"
#include "config/schema.h"
#include "core/version.h"

namespace strand::cli {

namespace {
std::string joined(const std::vector<std::string>& words, const char* separator = " ") {
  return fmt::format("{}", fmt::join(words, separator));
}

std::string replaced(const std::string& text, char what, const std::string& by) {
  std::string out;
  for (const char c : text) {
    if (c == what)
      out += by;
    else
      out += c;
  }
  return out;
}

/// The first clause of a description: a list of candidates has no room for more.
std::string short_text(const std::string& meaning) {
  int parentheses = 0;
  for (size_t i = 0; i + 1 < meaning.size(); ++i) {
    if (meaning[i] == '(') ++parentheses;
    if (meaning[i] == ')') --parentheses;
    if (parentheses == 0 && (meaning[i] == ';' || meaning[i] == '.') && meaning[i + 1] == ' ')
      return meaning.substr(0, i);
  }
  return meaning;
}

std::vector<std::string> names_of(const std::vector<CommandInfo>& commands) {
  std::vector<std::string> names;
  for (const CommandInfo& command : commands) names.push_back(command.name);
  return names;
}

std::vector<std::string> names_of(const std::vector<ArgumentInfo>& options) {
  std::vector<std::string> names;
  for (const ArgumentInfo& option : options) names.insert(names.end(), option.names.begin(), option.names.end());
  return names;
}

std::string made_by(const std::string& shell) {
  return fmt::format("# Completion of strand {} for {}, made by `strand completion {}`.\n", program_version(), shell,
                     shell);
}

// ---- bash ----------------------------------------------------------------------------------------------------------

const char* bash_kind(Completion completion) {
  switch (completion) {
    case Completion::nothing:
      return "nothing";
    case Completion::file:
      return "file";
    case Completion::directory:
      return "directory";
    case Completion::yaml_file:
      return "yaml";
    case Completion::setting:
      return "setting";
  }
  return "nothing";
}

/// "KIND WORD...": what completes the value of an argument.
std::string bash_value(const ArgumentInfo& argument) {
  std::string text = bash_kind(argument.completion);
  for (const std::string& word : argument.words) text += " " + word;
  return text;
}

constexpr const char* bash_functions = R"bash(
# _strand_reply PREFIX CURRENT KIND WORD...: candidates that begin with CURRENT, each after PREFIX.
_strand_reply() {
  local prefix=$1 current=$2 kind=$3 found
  shift 3
  local words="$*"
  case $kind in
    file) compopt -o filenames; mapfile -t found < <(compgen -f -- "$current") ;;
    directory) compopt -o filenames; mapfile -t found < <(compgen -d -- "$current") ;;
    yaml)
      compopt -o filenames
      mapfile -t found < <(compgen -f -X '!*.y*ml' -- "$current"; compgen -d -- "$current")
      ;;
    setting) compopt -o nospace; words+=" ${_strand_keys// /= }=" ;;
  esac
  COMPREPLY+=("${found[@]}" $(compgen -P "$prefix" -W "$words" -- "$current"))
}

_strand() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]}
  local option= prefix=
  COMPREPLY=()
  if [[ $COMP_CWORD == 1 ]]; then
    COMPREPLY=($(compgen -W "$_strand_commands" -- "$current"))
    return
  fi
  # In "--set KEY=VALUE" and "--option=VALUE" bash makes a word of its own of the "=", unless it was told not to.
  if [[ $current == '=' ]]; then
    option=$before current=
  elif [[ $before == '=' ]]; then
    option=${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $current == *=* ]]; then
    option=${current%%=*} prefix=${current%%=*}= current=${current#*=}
  elif [[ $before == -* && $(_strand_value "$command" "$before") != flag ]]; then
    option=$before
  fi
  if [[ -z $option && $current == -* ]]; then
    COMPREPLY=($(compgen -W "$(_strand_options "$command")" -- "$current"))
  elif [[ -z $option ]]; then
    _strand_reply '' "$current" $(_strand_value "$command" positional)
  elif [[ $option == -* ]]; then
    _strand_reply "$prefix" "$current" $(_strand_value "$command" "$option")
  else
    _strand_reply "$prefix" "$current" nothing $(_strand_key_values "$option")
  fi
}
complete -F _strand strand
)bash";

/// A shell function of a case for each pair of a pattern and the words to print.
std::string bash_case(const std::string& comment, const std::string& name, const std::string& subject,
                      const std::vector<std::pair<std::string, std::string>>& cases, const std::string& otherwise) {
  std::string text = fmt::format("\n# {}\n{}() {{\n  case {} in\n", comment, name, subject);
  for (const auto& [pattern, words] : cases) text += fmt::format("    {}) echo '{}' ;;\n", pattern, words);
  return text + fmt::format("    *) echo '{}' ;;\n  esac\n}}\n", otherwise);
}

// ---- zsh -----------------------------------------------------------------------------------------------------------

/// Within single quotes, in a specification of _arguments.
std::string zsh_text(const std::string& text) {
  std::string out;
  for (const char c : replaced(text, '\'', "'\\''")) {
    if (c == '[' || c == ']' || c == ':') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_action(const ArgumentInfo& argument) {
  std::string files;
  switch (argument.completion) {
    case Completion::nothing:
      break;
    case Completion::file:
      files = "_files";
      break;
    case Completion::directory:
      files = "_files -/";
      break;
    case Completion::yaml_file:
      files = "_files -g \"*.(yaml|yml)(-.)\"";
      break;
    case Completion::setting:
      return "_strand_setting";
  }
  if (argument.words.empty()) return files.empty() ? "( )" : files;
  if (files.empty()) return "(" + joined(argument.words) + ")";
  return fmt::format("{{ compadd -- {}; {} }}", joined(argument.words), files);
}

std::string zsh_options(const std::vector<ArgumentInfo>& options) {
  std::string text;
  for (const ArgumentInfo& option : options) {
    const std::string meaning = zsh_text(short_text(option.meaning));
    const std::string many = option.count == ArgumentInfo::Count::many ? "*" : "";
    for (const std::string& name : option.names) {
      text += option.is_flag() ? fmt::format(" \\\n        '{}{}[{}]'", many, name, meaning)
                               : fmt::format(" \\\n        '{}{}=[{}]:{}:{}'", many, name, meaning,
                                             zsh_text(option.value), zsh_action(option));
    }
  }
  return text;
}

// ---- fish ----------------------------------------------------------------------------------------------------------

std::string fish_quoted(const std::string& text) {
  return "'" + replaced(replaced(text, '\\', "\\\\"), '\'', "\\'") + "'";
}

/// The options of fish's `complete` that say what an argument takes.
std::string fish_value(const ArgumentInfo& argument) {
  std::string candidates = joined(argument.words);
  std::string text;
  switch (argument.completion) {
    case Completion::nothing:
      break;
    case Completion::file:
      text = " -F";
      break;
    case Completion::directory:
      candidates += " (__fish_complete_directories)";
      break;
    case Completion::yaml_file:
      candidates += " (__fish_complete_suffix .yaml)";
      break;
    case Completion::setting:
      candidates += " (__strand_settings)";
      break;
  }
  if (!candidates.empty()) text += " -a " + fish_quoted(candidates);
  return text;
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
  const std::vector<CommandInfo> commands = program_commands(app);
  std::vector<std::string> keys;
  std::vector<std::pair<std::string, std::string>> key_values, options, values;
  for (const KeyText& key : config_keys()) {
    keys.push_back(key.path);
    if (!key.choices.empty()) key_values.emplace_back(key.path, joined(key.choices));
  }
  for (const CommandInfo& command : commands) {
    options.emplace_back(command.name, joined(names_of(command.options)));
    for (const ArgumentInfo& option : command.options) {
      if (!option.is_flag())
        values.emplace_back(fmt::format("'{} {}'", command.name, option.name()), bash_value(option));
    }
    for (const ArgumentInfo& positional : command.positionals)
      values.emplace_back(fmt::format("'{} positional'", command.name), bash_value(positional));
  }
  return made_by("bash") +
         fmt::format("\n_strand_commands='{} {}'\n_strand_keys='{}'\n", joined(names_of(commands)),
                     joined(names_of(program_options(app))), joined(keys)) +
         bash_case("_strand_key_values KEY: the values of a key of the configuration, where they are a few words.",
                   "_strand_key_values", "$1", key_values, "") +
         bash_case("_strand_options COMMAND", "_strand_options", "$1", options, "") +
         bash_case("_strand_value COMMAND OPTION: what completes its value, as _strand_reply takes it.",
                   "_strand_value", "\"$1 $2\"", values, "flag") +
         bash_functions;
}

std::string zsh_completion(const CLI::App& app) {
  const std::vector<CommandInfo> commands = program_commands(app);
  std::string text = "#compdef strand\n" + made_by("zsh");
  std::string values;
  std::vector<std::string> keys;
  for (const KeyText& key : config_keys()) {
    keys.push_back(key.path);
    if (!key.choices.empty()) values += fmt::format("      {}) compadd -- {} ;;\n", key.path, joined(key.choices));
  }
  text += fmt::format(
      "\n_strand_setting() {{\n  local key=${{PREFIX%%=*}}\n  if compset -P '*='; then\n    case $key in\n{}    esac\n"
      "  else\n    compadd -S = -- {}\n  fi\n}}\n",
      values, joined(keys));
  text += "\n_strand() {\n  local -a commands=(\n";
  for (const CommandInfo& command : commands)
    text += fmt::format("    '{}:{}'\n", command.name, zsh_text(short_text(command.meaning)));
  text += "  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    compadd -- " +
          joined(names_of(program_options(app))) + "\n    return\n  fi\n  local command=$words[2]\n" +
          "  shift words\n  (( CURRENT-- ))\n  case $command in\n";
  for (const CommandInfo& command : commands) {
    text += fmt::format("    {})\n      _arguments{}", command.name, zsh_options(command.options));
    for (const ArgumentInfo& positional : command.positionals) {
      const char* place = positional.count == ArgumentInfo::Count::many ? "*" : "1";
      text += fmt::format(" \\\n        '{}:{}:{}'", place, zsh_text(positional.name()), zsh_action(positional));
    }
    text += " ;;\n";
  }
  return text + "  esac\n}\n\n_strand \"$@\"\n";
}

std::string fish_completion(const CLI::App& app) {
  const std::vector<CommandInfo> commands = program_commands(app);
  std::string text = made_by("fish") + "\nfunction __strand_settings\n  printf '%s\\n' ";
  for (const KeyText& key : config_keys()) {
    if (key.choices.empty()) text += " " + key.path + "=";
    for (const std::string& value : key.choices) text += " " + key.path + "=" + value;
  }
  text += "\nend\n\ncomplete -c strand -f\n";
  for (const ArgumentInfo& option : program_options(app))
    text += fmt::format("complete -c strand -n __fish_use_subcommand -l {} -d {}\n", option.name().substr(2),
                        fish_quoted(short_text(option.meaning)));
  for (const CommandInfo& command : commands) {
    const std::string here = fmt::format("complete -c strand -n '__fish_seen_subcommand_from {}'", command.name);
    text += fmt::format("\ncomplete -c strand -n __fish_use_subcommand -a {} -d {}\n", command.name,
                        fish_quoted(short_text(command.meaning)));
    for (const ArgumentInfo& positional : command.positionals) text += here + fish_value(positional) + "\n";
    for (const ArgumentInfo& option : command.options) {
      // A line for each long name; a short one stands beside the last of them.
      std::string rest;
      if (!option.is_flag()) rest += (option.completion == Completion::file ? " -r" : " -x") + fish_value(option);
      rest += " -d " + fish_quoted(short_text(option.meaning)) + "\n";
      std::string brief;
      for (const std::string& name : option.names) {
        if (name.starts_with("--"))
          text += here + " -l " + name.substr(2) + (&name == &option.names.back() ? brief : "") + rest;
        else
          brief += " -s " + name.substr(1);
      }
    }
  }
  return text;
}

}  // namespace strand::cli
