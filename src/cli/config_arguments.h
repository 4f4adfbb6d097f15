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

  /// Reads and checks the configuration. Settings that are legal and have no effect are logged as warnings.
  Config load() const;
  /// The same, with a vocab_size of 0 replaced by the size of data.tokenizer. Where vocab_size is set, no tokenizer is
  /// needed.
  Config load_with_vocabulary() const;
};

/// Registers --set and the positional CONFIG. The CLI::Option of CONFIG is returned, so that the caller can make it
/// required. `arguments` outlives the parse.
CLI::Option* add_config_arguments(CLI::App& command, ConfigArguments& arguments);

}  // namespace strand::cli
