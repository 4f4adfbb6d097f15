// strand plan CONFIG: what a run takes in memory, work and traffic, without taking it.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/config_arguments.h"
#include "cli/device_arguments.h"
#include "cli/number_option.h"
#include "core/log.h"
#include "core/number_text.h"
#include "core/standard_streams.h"
#include "kernels/cuda/backend.h"
#include "model/backend.h"
#include "report/plan_report.h"
#include "train/training_plan.h"

namespace strand::cli {

namespace {
struct Options {
  ConfigArguments config;
  DeviceArguments device;
  int ranks = 1;
  std::optional<int64_t> expert_parallel;
  bool json = false;
};

Config load(const Options& options) {
  ConfigArguments arguments = options.config;
  if (options.expert_parallel)
    arguments.overrides.push_back(fmt::format("parallel.expert_parallel={}", *options.expert_parallel));
  return arguments.load_with_vocabulary();
}

void add_estimate(PlanReport& report, const DeviceSpec& device, double efficiency) {
  report.estimate = estimate_step(report.config, report.grid, report.session.work, device, efficiency);
  if (!report.fits())
    log_warning(fmt::format("each rank needs {}, but {} has {}",
                            bytes_text(static_cast<double>(report.session.bytes())), device.name,
                            bytes_text(device.memory_bytes)));
}

std::vector<RecomputePlan> plan_recompute_choices(Config config, const DeviceTraits& device, const GridShape& grid) {
  std::vector<RecomputePlan> plans;
  for (const Recompute recompute : {Recompute::none, Recompute::experts, Recompute::block}) {
    config.train.recompute = recompute;
    plans.push_back({recompute, plan_training(config, device, grid)});
  }
  return plans;
}

void run(const Options& options) {
  const Config config = load(options);
  const GridShape grid{.ranks = options.ranks, .expert_parallel = static_cast<int>(config.parallel.expert_parallel)};
  require_grid(grid.ranks, grid.expert_parallel);
  std::optional<DeviceSpec> device;
  if (!options.device.name.empty()) device = options.device.device(config.run, grid.ranks);
  const bool on_gpu = config.run.device == DeviceKind::cuda;  // which need not be there
  const DeviceTraits traits = device ? device->traits : on_gpu ? cuda_traits() : make_device(config.run)->traits();
  PlanReport report = make_plan_report(config, grid, plan_recompute_choices(config, traits, grid));
  if (device) add_estimate(report, *device, options.device.efficiency);
  print_out("{}", options.json ? to_json(report).dump(2) + "\n" : to_text(report));
}
}  // namespace

void add_plan_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "plan", "Print what a run of a configuration takes: parameters, memory, FLOPs, traffic; nothing is allocated");
  command->footer("Example: strand plan configs/paper_small.yaml --ranks 8 --expert-parallel 4 --device h100");
  const auto options = std::make_shared<Options>();
  add_config_arguments(*command, options->config)->required();
  add_number(*command, "--ranks", options->ranks, int64_t{1}, int64_t{1'000'000}, "Processes to plan for (default 1)");
  add_number(*command, "--expert-parallel", options->expert_parallel, int64_t{1}, int64_t{65536},
             "Ranks over which experts are spread (default: the configuration's)");
  add_device_arguments(*command, options->device);
  command->add_flag("--json", options->json, "Print the plan as JSON");
  command->callback([options] { run(*options); });
}

}  // namespace strand::cli
