// strand train CONFIG: trains a model, or continues to.
#include <fmt/core.h>

#include <filesystem>
#include <system_error>

#include "cli/commands.h"
#include "cli/config_arguments.h"
#include "cli/errors.h"
#include "cli/grid_on_device.h"
#include "cli/place_locks.h"
#include "cli/standard_input.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/nearest.h"
#include "core/version.h"
#include "model/backend.h"
#include "parallel/agreement.h"
#include "train/shared_directory.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace strand::cli {

namespace {
struct Arguments {
  ConfigArguments config;
  ResumeChoice resume;
};

/// A text that is equal in processes which run the same program.
std::string this_build() {
  return fmt::format("strand {}\ncompiler {}\nprogram with XXH3 {}\n", program_version(), __VERSION__,
                     digest_of_file("/proc/self/exe").xxh3);
}

void require_same_run(ControlChannel& all, const Config& config, const Device& device, const ResumeChoice& resume) {
  if (all.size() == 1) return;
  require_agreement(all, "build", this_build());
  require_agreement(all, "configuration", to_yaml(config));
  require_agreement(all, "arithmetic of the device (on a CPU, see STRAND_ISA)", device.arithmetic());
  require_agreement(all, "--resume",
                    fmt::format("{}{}{}", resume.text, resume.weights_only ? " --weights-only" : "",
                                resume.accept_data_change ? " --accept-data-change" : ""));
  require_shared_directory(all, config.run.dir + "/" + config.run.name);
}

/// A slip in a word would be taken for the name of a directory.
void check_resume(const std::string& text) {
  std::error_code ignored;
  if (text == "auto" || text == "never" || std::filesystem::exists(text, ignored)) return;
  if (const std::string meant = did_you_mean(text, {"auto", "never"}); !meant.empty())
    throw UsageError(fmt::format("--resume: '{}' is neither auto, nor never, nor a directory{}", text, meant));
}

void run(const Arguments& a, Processes& processes) {
  check_resume(a.resume.text);
  const SignalThread signals;
  require_input_of_all(a.config.path, processes);
  const Config config = a.config.load();
  RunConfig here = config.run;
  here.threads = processes.threads_for(here.threads);
  const std::unique_ptr<Device> device = make_device(here, config.cuda, processes.local_rank());
  const std::unique_ptr<ProcessGrid> grid = grid_on_device(processes, config.parallel, *device);
  require_same_run(grid->control(), config, *device, a.resume);
  const PlaceLock lock = lock_directory(grid->control(), run_directory(config.run),
                                        {.command = "strand train", .otherwise = "set another run.name"});
  const std::unique_ptr<Ops> ops = device->make_ops();
  Trainer trainer(config, a.resume, *ops, *grid, processes.local_ranks());
  run_together(processes, [&] { trainer.run(); });
}
}  // namespace

void add_train_command(CLI::App& app, Processes& processes) {
  CLI::App* command = app.add_subcommand("train", "Train a model from a configuration, or continue a run");
  command->footer("Example: strand train configs/quickstart.yaml --set run.name=again --set train.steps=60");
  const auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config)->required();
  command
      ->add_option("--resume", a->resume.text,
                   "auto: continue from the run directory's newest checkpoint, if any (default); never: start anew, "
                   "and refuse a directory that holds a run; DIR: continue from this checkpoint")
      ->type_name("auto|never|DIR");
  command->add_flag("--weights-only", a->resume.weights_only,
                    "With --resume DIR: start a new run from that checkpoint's weights (fine-tuning)");
  command->add_flag("--accept-data-change", a->resume.accept_data_change,
                    "Continue although data.train or data.sequence_length is not what the checkpoint was trained on. "
                    "The run goes on with the sample of the same number, but the order of samples is another one: text "
                    "that was seen may come again before all has been seen");
  command->callback([a, &processes] { run(*a, processes); });
}

}  // namespace strand::cli
