// strand train CONFIG: trains a model, or continues to.
#include "cli/commands.h"
#include "cli/config_arguments.h"
#include "model/backend.h"
#include "train/trainer.h"

namespace strand::cli {

namespace {
struct Arguments {
  ConfigArguments config;
  ResumeChoice resume;
};
}  // namespace

void add_train_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("train", "Train a model from a configuration, or continue a run");
  const auto a = std::make_shared<Arguments>();
  add_config_arguments(*command, a->config)->required();
  command->add_option("--resume", a->resume.text,
                      "auto: continue from the run directory's newest checkpoint, if any (default); never: start anew, "
                      "and refuse a directory that holds a run; DIR: continue from this checkpoint");
  command->add_flag("--weights-only", a->resume.weights_only,
                    "With --resume DIR: start a new run from that checkpoint's weights (fine-tuning)");
  command->callback([a] {
    const Config config = a->config.load();
    const std::unique_ptr<Ops> ops = make_backend(config.run);
    ProcessGrid self;
    Trainer(config, a->resume, *ops, self).run();
  });
}

}  // namespace strand::cli
