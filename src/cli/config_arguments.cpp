#include "cli/config_arguments.h"

#include <fmt/core.h>

#include <filesystem>

#include "checkpoint/manifest.h"
#include "cli/standard_input.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/log.h"
#include "train/model_state.h"

namespace strand::cli {

namespace {
namespace fs = std::filesystem;

/// What to do with a directory that was given as a configuration, as far as its content tells.
std::string advice_about(const fs::path& directory) {
  std::error_code ignored;
  const auto holds = [&](const char* name) { return fs::exists(directory / name, ignored); };
  const std::string name = directory.string();
  const std::string from_weights =
      fmt::format("to train on from its weights, write: strand train CONFIG --resume {} --weights-only", name);
  if (holds(manifest_name))
    return fmt::format("a checkpoint: {}; its configuration is {}", from_weights, (directory / "config.yaml").string());
  if (holds("config.yaml"))
    return fmt::format(
        "the directory of a run, whose configuration is {0}: strand train {0} continues the run from its newest "
        "checkpoint",
        (directory / "config.yaml").string());
  if (holds("checkpoints")) return fmt::format("the directory of a run that was imported: {}", from_weights);
  if (holds("config.json"))
    return fmt::format("a model directory of Hugging Face: strand import {} --out runs/NAME makes a checkpoint of it",
                       name);
  return "a directory, not a YAML file";
}
}  // namespace

Config ConfigArguments::load() const {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) fail("{} is {}", path, advice_about(path));
  Config config = load_config(input_path(path), overrides);
  for (const std::string& warning : config_warnings(config)) log_warning(fmt::format("{}: {}", path, warning));
  return config;
}

Config ConfigArguments::load_with_vocabulary() const {
  Config config = load();
  if (config.model.vocab_size > 0) return config;
  require(fs::exists(config.data.tokenizer),
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
  return command.add_option("CONFIG", arguments.path, "YAML configuration; - is standard input")->type_name("");
}

}  // namespace strand::cli
