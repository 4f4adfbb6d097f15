// strand config: prints an explanation of the keys, or a configuration as a run would see it.
#include <fmt/core.h>

#include <memory>

#include "cli/commands.h"
#include "cli/config_arguments.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/standard_streams.h"

namespace strand::cli {
namespace {

struct Options {
  ConfigArguments config;
  bool help_keys = false;
};

void run(const Options& options) {
  if (options.help_keys) {
    if (!options.config.path.empty())
      throw UsageError(fmt::format("strand config: --help-keys explains all keys, so it takes no CONFIG ('{}')",
                                   options.config.path));
    print_out("{}", config_help());
    return;
  }
  if (options.config.path.empty()) throw UsageError("strand config: give a CONFIG or --help-keys");
  print_out("{}", to_yaml(options.config.load()));
}

}  // namespace

void add_config_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("config", "Print a configuration with every key resolved, or explain the keys");
  command->footer("Example: strand config configs/quickstart.yaml --set moe.top_k=1");
  const auto options = std::make_shared<Options>();
  add_config_arguments(*command, options->config);
  command->add_flag("--help-keys", options->help_keys, "Print every key with its type, default, range and meaning");
  command->callback([options] { run(*options); });
}

}  // namespace strand::cli
