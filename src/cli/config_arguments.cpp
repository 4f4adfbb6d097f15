#include "cli/config_arguments.h"

#include <fmt/core.h>

#include <filesystem>

#include "config/schema.h"
#include "core/error.h"
#include "core/log.h"
#include "train/model_state.h"

namespace strand::cli {

Config ConfigArguments::load() const {
  Config config = load_config(path, overrides);
  for (const std::string& warning : config_warnings(config)) log_warning(fmt::format("{}: {}", path, warning));
  return config;
}

Config ConfigArguments::load_with_vocabulary() const {
  Config config = load();
  if (config.model.vocab_size > 0) return config;
  require(std::filesystem::exists(config.data.tokenizer),
          "{}: model.vocab_size is not set, and data.tokenizer {} is not there to tell it; --set model.vocab_size=N",
          path, config.data.tokenizer);
  resolve_vocabulary(config);
  check_config(config);
  return config;
}

CLI::Option* add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  command.add_option("--set", arguments.overrides, "Override a key of the configuration; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  return command.add_option("CONFIG", arguments.path, "YAML configuration")->type_name("");
}

}  // namespace strand::cli
