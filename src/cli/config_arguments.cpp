#include "cli/config_arguments.h"

#include <fmt/core.h>

#include "config/schema.h"
#include "core/log.h"

namespace strand::cli {

Config ConfigArguments::load() const {
  Config config = load_config(path, overrides);
  for (const std::string& warning : config_warnings(config)) log_warning(fmt::format("{}: {}", path, warning));
  return config;
}

CLI::Option* add_config_arguments(CLI::App& command, ConfigArguments& arguments) {
  command.add_option("--set", arguments.overrides, "Override a key of the configuration; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  return command.add_option("config", arguments.path, "YAML configuration")->type_name("CONFIG");
}

}  // namespace strand::cli
