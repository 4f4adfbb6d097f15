#pragma once
// `CONFIG [--set group.key=value]...`, as several commands take it.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "config/config.h"

namespace strand::cli {

struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;

  /// The checked configuration; what is legal but idle in it is logged as warnings.
  Config load() const;
  /// The same, with a vocab_size of 0 replaced by the size of data.tokenizer. Where it is set, no tokenizer is needed.
  Config load_with_vocabulary() const;
};

/// Registers the positional CONFIG (its CLI::Option is returned, to be made required or not) and --set.
/// `arguments` outlives the parse.
CLI::Option* add_config_arguments(CLI::App& command, ConfigArguments& arguments);

}  // namespace strand::cli
