#include "train/resume.h"

#include <fmt/core.h>

#include "chat/carried_templates.h"
#include "chat/encoder.h"
#include "chat/template_yaml.h"
#include "checkpoint/carried_files.h"
#include "config/schema.h"
#include "core/error.h"
#include "train/agreed.h"
#include "train/model_state.h"
#include "train/resume_checks.h"

namespace strand {

namespace {
/// Groups of the configuration that must be those of the checkpoint.
const std::vector<std::string> model_groups = {"model", "moe"};
/// Groups that may change when a run continues. Each change is reported.
const std::vector<std::string> other_groups = {"run",      "losses", "data",     "optimizer",
                                               "schedule", "train",  "parallel", "cuda"};

/// Returns the configuration of the checkpoint. Throws Error when its model is another one.
Config require_same_model(const RunSetting& run, const Checkpoint& checkpoint) {
  Config saved = parse_config(checkpoint.config_yaml(), checkpoint.path() + "/config.yaml");
  std::string text;
  for (const std::string& d : config_differences(saved, run.config, model_groups)) text += "; " + d;
  require(text.empty(), "cannot continue from {}: the model is another one{}", checkpoint.path(), text);
  return saved;
}

/// A model goes with its tokenizer: ids mean nothing without it, or with another one of the same size.
NamedFiles tokenizer_of(const RunSetting& run, const Checkpoint& checkpoint) {
  const NamedFiles& theirs = checkpoint.tokenizer();
  if (theirs.empty()) return run.tokenizer;
  require(run.tokenizer.empty() || run.tokenizer == without_carried_files(theirs),
          "cannot continue from {}: data.tokenizer {} is not the tokenizer that its model was trained with, {}",
          checkpoint.path(), run.config.data.tokenizer, checkpoint.tokenizer_path());
  if (run.tokenizer.empty()) run.check_tokenizer(Tokenizer::load(checkpoint.tokenizer_path()).get());
  return theirs;
}

/// The files of the tokenizer with the chat template that the configuration chooses, if any.
NamedFiles with_template_of_run(const RunSetting& run, const NamedFiles& files, const std::string& checkpoint) {
  const std::string& choice = run.config.data.chat_template;
  if (choice.empty()) return files;
  require(!files.empty(),
          "data.chat_template is {}, but there is no tokenizer with which it makes ids; set data.tokenizer", choice);
  const ReplacedTemplate replaced = with_chosen_template({choice, files, checkpoint});
  if (!replaced.remark.empty()) run.say(replaced.remark);
  const auto tokenizer = Tokenizer::from_files(without_carried_files(files), "data.tokenizer");
  const ChatEncoder encoder(load_template(choice), *tokenizer);
  if (const std::string remark = encoder.remark(); !remark.empty()) run.say(remark);
  return replaced.files;
}

/// The position in the data means something only while the data is the same. Throws Error when it is not, unless the
/// user accepts that.
void check_data(const RunSetting& run, const Checkpoint& checkpoint, const ResumeChoice& resume) {
  const DataState& saved = checkpoint.state().data;
  if (saved.sequence_length == 0)
    return run.say(
        fmt::format("{} does not record what its training data held; it is taken to be the same", checkpoint.path()));
  if (const std::string remark = validation_difference(saved, run.data); !remark.empty()) run.say(remark);
  std::string text;
  for (const std::string& d : data_differences(saved, run.data)) text += "; " + d;
  if (text.empty()) return;
  require(resume.accept_data_change,
          "cannot continue from {}: the training data is not what it was{}. The position in the data, sample {}, now "
          "means another text. Restore the data, or continue with --accept-data-change: the run then goes on with "
          "sample {} of the new data, and text that was seen may come again before all has been seen",
          checkpoint.path(), text, checkpoint.state().next_sample, checkpoint.state().next_sample);
  run.say(fmt::format("the training data is not what it was, which --accept-data-change accepts{}", text));
}

RunStart start_from_weights(const RunSetting& run, const Checkpoint& checkpoint, Session& session) {
  require_same_model(run, checkpoint);
  RunStart start;
  start.tokenizer = tokenizer_of(run, checkpoint);
  load_model(session, checkpoint.model());
  session.parameters().zero_training_state(session.ops(), Parameters::Keep::biases);
  run.say(fmt::format("a new run from the weights of {}", checkpoint.path()));
  return start;
}

std::vector<double> series_of(const RunState& state, const char* name) {
  const auto it = state.series.find(name);
  return it == state.series.end() ? std::vector<double>{} : it->second;
}

int64_t number_of(const RunState& state, const char* name) {
  const std::vector<double> series = series_of(state, name);
  return series.empty() ? 0 : static_cast<int64_t>(series[0]);
}

RunStart continue_from(const RunSetting& run, const Checkpoint& checkpoint, const ResumeChoice& resume,
                       Session& session, StepRunner& runner) {
  const std::string& path = checkpoint.path();
  const Config saved = require_same_model(run, checkpoint);
  RunStart start;
  start.tokenizer = tokenizer_of(run, checkpoint);
  for (const std::string& d : config_differences(saved, run.config, other_groups)) {
    run.say(fmt::format("changed since the checkpoint: {}", d));
    start.config_changed = true;
  }
  const RunState& state = checkpoint.state();
  require(state.seed == run.config.run.seed,
          "cannot continue from {}: its run.seed is {}, this one's is {}, and the order of the data follows from it",
          path, state.seed, run.config.run.seed);
  require(state.step <= run.config.train.steps, "{} is at step {}, beyond train.steps {}", path, state.step,
          run.config.train.steps);
  check_data(run, checkpoint, resume);
  load_model(session, checkpoint.model());
  load_optimizer(session, checkpoint.optimizer());
  start.step = state.step;
  start.sample = state.next_sample;
  start.tokens = state.tokens;
  start.losses = series_of(state, "loss");
  start.norms = series_of(state, "grad_norm");
  start.skipped = number_of(state, "skipped_updates");
  start.skipped_in_a_row = number_of(state, "skipped_in_a_row");
  runner.set_updates(start.step - start.skipped);
  if (const std::string jump = learning_rate_jump(saved, run.config, start.step); !jump.empty()) run.say(jump);
  if (start.step < run.config.train.steps) run.say(fmt::format("continuing from {} at step {}", path, start.step));
  return start;
}
}  // namespace

RunStart start_run(const RunSetting& run, const ResumeChoice& resume, Session& session, StepRunner& runner) {
  ControlChannel& hosts = session.grid().control();
  Start chosen;
  agreed(hosts, [&] {
    if (hosts.rank() == 0) chosen = choose_start(resume, run.directory, run.checkpoints);
  });
  const std::string path = hosts.all_gather(chosen.checkpoint)[0];
  const bool from_elsewhere = hosts.all_reduce_max(static_cast<int64_t>(chosen.from_elsewhere)) == 1;
  RunStart start;
  if (path.empty()) {
    session.parameters().initialize(session.ops(), run.config.run.seed);
    start.tokenizer = run.tokenizer;
  } else {
    const Checkpoint checkpoint(path, Verification::done);
    start = resume.weights_only ? start_from_weights(run, checkpoint, session)
                                : continue_from(run, checkpoint, resume, session, runner);
    if (const auto origin = checkpoint.state().versions.find(RunState::origin);
        origin != checkpoint.state().versions.end())
      start.origin = origin->second;
  }
  start.tokenizer = with_template_of_run(run, start.tokenizer, path);
  start.from_elsewhere = from_elsewhere;
  return start;
}

}  // namespace strand
