#pragma once
// `--template NAME|FILE`: a chat template.
#include <CLI/CLI.hpp>
#include <string>

#include "chat/named_templates.h"

namespace strand::cli {

/// Registers the option. `target` outlives the parse.
inline CLI::Option* add_template_option(CLI::App& command, std::string& target, const std::string& help) {
  std::string values;
  for (const ChatTemplate& t : named_templates()) values += t.name + "|";
  return command.add_option("--template", target, help)->type_name(values + "FILE");
}

}  // namespace strand::cli
