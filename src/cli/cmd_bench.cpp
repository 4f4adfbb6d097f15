// strand bench CONFIG: how fast training is on this machine, and where the time goes.
#include <fmt/core.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/bench_run.h"
#include "cli/commands.h"
#include "cli/config_arguments.h"
#include "cli/errors.h"
#include "cli/grid_on_device.h"
#include "cli/number_option.h"
#include "cli/place_locks.h"
#include "cli/standard_input.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/standard_streams.h"
#include "model/backend.h"
#include "train/agreed.h"

namespace strand::cli {

namespace {
constexpr uint64_t largest_report = uint64_t{16} << 20;
constexpr int64_t most_steps = 1'000'000;

struct Options {
  ConfigArguments config;
  BenchOptions bench;
  bool losses_overhead = false;
  std::string json;
  std::string against, scaling;
};

BenchReport earlier(const std::string& path) {
  return bench_report_from_json(read_file(path, largest_report), path);
}

void run(const Options& options, Processes& processes) {
  require_input_of_all(options.config.path, processes);
  Config config = options.config.load_with_vocabulary();
  config.run.threads = processes.threads_for(config.run.threads);
  const std::unique_ptr<Device> device = make_device(config.run, config.cuda, processes.local_rank());
  const std::unique_ptr<ProcessGrid> grid = grid_on_device(processes, config.parallel, *device);
  BenchOptions bench = options.bench;
  if (options.losses_overhead) bench.losses_overhead = MeasureOverhead::yes;
  bench.local_ranks = processes.local_ranks();
  const BenchSetup setup = bench_setup(config, *device, grid->ranks());
  std::optional<BenchReport> before, fewer;
  if (!options.against.empty()) {
    before = earlier(options.against);
    require_comparable(setup, before->setup, options.against);  // before the work, not after it
  }
  if (!options.scaling.empty()) {
    fewer = earlier(options.scaling);
    scaling_of(setup, fewer->setup, options.scaling);
  }
  if (const std::string remark = device->bf16_remark();
      processes.rank() == 0 && config.run.precision == Precision::bf16 && !remark.empty())
    print_out("{}\n", remark);
  std::optional<PlaceLock> json_lock, checkpoint_lock;
  agreed(grid->control(), [&] {
    if (grid->rank() == 0 && !options.json.empty()) json_lock.emplace(lock_output(options.json, "bench"));
  });
  if (!bench.checkpoint_directory.empty())
    checkpoint_lock.emplace(lock_directory(grid->control(), bench.checkpoint_directory,
                                           {.command = "strand bench", .otherwise = "choose another place"}));
  BenchReport report;
  run_together(processes, [&] { report = run_bench(config, bench, *device, *grid); });
  if (processes.rank() != 0) return;
  if (!options.json.empty()) write_file_atomically(options.json, to_json(report).dump(2) + "\n");
  print_out("{}", to_text(report));
  if (before) print_out("{}", comparison_text(report, *before, options.against));
  if (fewer) print_out("{}", scaling_text(report, *fewer, options.scaling));
}
}  // namespace

void add_bench_command(CLI::App& app, Processes& processes) {
  CLI::App* command = app.add_subcommand(
      "bench", "Time training steps on random tokens: tokens a second, MFU, time by operation family, memory");
  command->footer("Example: strand bench configs/quickstart.yaml --losses-overhead");
  const auto options = std::make_shared<Options>();
  add_config_arguments(*command, options->config)->required();
  add_number(*command, "--steps", options->bench.steps, int64_t{1}, most_steps, "Timed steps (default 10)");
  add_number(*command, "--warmup", options->bench.warmup, int64_t{0}, most_steps, "Steps before them (default 2)");
  add_number(*command, "--profiled", options->bench.profiled, int64_t{1}, most_steps,
             "Steps after them, for the time by family (default 3)");
  command->add_flag("--losses-overhead", options->losses_overhead,
                    "Also time steps with and without sp and cp, in alternation");
  command
      ->add_option("--checkpoint", options->bench.checkpoint_directory,
                   "Also write a checkpoint below DIR while steps go on, and say what training waited for")
      ->type_name("DIR");
  command->add_option("--json", options->json, "Write the result to FILE")->type_name("FILE");
  command->add_option("--against", options->against, "Compare with an earlier result (its JSON)")->type_name("FILE");
  command
      ->add_option("--scaling", options->scaling,
                   "Compare with a result (its JSON) of another number of ranks: weak or strong scaling")
      ->type_name("FILE");
  command->callback([options, &processes] { run(*options, processes); });
}

}  // namespace strand::cli
