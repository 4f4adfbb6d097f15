// strand plan CONFIG: what a run takes in memory and work, without taking it.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/config_arguments.h"
#include "report/plan_report.h"
#include "train/step_counts.h"

namespace strand::cli {

namespace {
struct Options {
  ConfigArguments config;
  bool json = false;
};

void run(const Options& options) {
  const PlanReport report = make_plan_report(options.config.load_with_vocabulary(), count_step);
  fmt::print("{}", options.json ? to_json(report).dump(2) + "\n" : to_text(report));
}
}  // namespace

void add_plan_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "plan", "Print what a run of a configuration takes: parameters, memory, FLOPs; nothing is allocated");
  const auto options = std::make_shared<Options>();
  add_config_arguments(*command, options->config)->required();
  command->add_flag("--json", options->json, "Print the plan as JSON");
  command->callback([options] { run(*options); });
}

}  // namespace strand::cli
