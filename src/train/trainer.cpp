#include "train/trainer.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "chat/template_yaml.h"
#include "config/batch.h"
#include "config/schema.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/file_io.h"
#include "core/log.h"
#include "core/version.h"
#include "data/text_bytes.h"
#include "data/tokenizer_record.h"
#include "model/memory_check.h"
#include "parallel/agreement.h"
#include "run_report/report.h"
#include "train/agreed.h"
#include "train/model_state.h"
#include "train/nonfinite.h"
#include "train/resume_checks.h"
#include "train/schedule.h"
#include "train/signals.h"
#include "train/training_plan.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
/// A number among those of signals which says that a batch cannot be read.
constexpr int64_t unreadable_data = 1 << 20;

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string checkpoint_directory(const std::string& run) {
  return (fs::path(run) / "checkpoints").string();
}
}  // namespace

Trainer::~Trainer() = default;

// ---- set-up -------------------------------------------------------------------------------------------------------

Trainer::Trainer(Config config, const ResumeChoice& resume, Ops& ops, ProcessGrid& grid, int local_ranks)
    : config_(std::move(config)), grid_(grid), directory_(run_directory(config_.run)) {
  open_data();
  const SessionPlan plan = plan_training(config_, training_shape(config_), ops, grid);
  check_memory_of_ranks(plan, ops.device(), local_ranks);
  planned_bytes_ = plan.bytes();
  session_ = std::make_unique<Session>(ops, grid, config_, training_shape(config_), plan);
  runner_ = std::make_unique<StepRunner>(*session_);
  metrics_ = std::make_unique<RunMetrics>(config_, *session_);
  checkpoints_ = std::make_unique<RunCheckpoints>(checkpoint_directory(directory_), *session_, config_.train,
                                                  [this](const std::string& text) { metrics_->news(text); });
  start_ = start_run({.config = config_,
                      .data = data_,
                      .tokenizer = tokenizer_,
                      .directory = directory_,
                      .checkpoints = checkpoint_directory(directory_),
                      .check_tokenizer = [this](const Tokenizer* tokenizer) { check_tokenizer_of_data(tokenizer); },
                      .say = [this](const std::string& text) { metrics_->say(text); }},
                     resume, *session_, *runner_);
  tokenizer_ = start_.tokenizer;
  skipped_ = start_.skipped;
  skipped_in_a_row_ = start_.skipped_in_a_row;
  open_run_directory();
}

void Trainer::open_data() {
  require(!config_.data.train.empty(), "data.train is empty: name token files to train on (see strand tokenize)");
  check_layout();
  const std::unique_ptr<const Tokenizer> tokenizer = resolve_vocabulary(config_);
  if (tokenizer) {
    tokenizer_ = tokenizer->files();
    text_bytes_ = text_bytes_by_id(*tokenizer);
  }
  if (!config_.data.chat_template.empty()) load_template(config_.data.chat_template);  // throws what is wrong with it
  check_config(config_);
  train_data_ = std::make_unique<DataFeed>(config_.data.train, config_);
  if (config_.train.eval_every > 0) {
    require(!config_.data.val.empty(),
            "train.eval_every is {}, but data.val is empty; name token files there, or set train.eval_every=0",
            config_.train.eval_every);
    val_data_ = std::make_unique<DataFeed>(config_.data.val, config_);
  }
  data_ = data_state(config_.data, train_data_->sampler(), val_data_ ? &val_data_->sampler() : nullptr);
  // Several hosts may have different files under the same path.
  require_agreement(grid_.control(), "training data and validation data", to_text(data_));
  check_tokenizer_of_data(tokenizer.get());
}

/// The ids are the same on all ranks, so that the first one looks for all.
void Trainer::check_tokenizer_of_data(const Tokenizer* tokenizer) const {
  agreed(grid_.control(), [&] {
    if (!first_rank()) return;
    for (const std::string& remark : check_tokenizers(all_files(), tokenizer)) log_warning(remark);
  });
}

/// All ranks check together, so that no rank allocates before every rank has looked at what is free.
void Trainer::check_memory_of_ranks(const SessionPlan& plan, const Device& device, int local_ranks) const {
  agreed(grid_.control(), [&] {
    check_memory(plan, available_to_rank(device, local_ranks), training_remedy());
    if (RunCheckpoints::mode(config_.train) == CheckpointSaver::Mode::background || grid_.ranks() > 1)
      check_snapshot_memory(plan, grid_.ranks(), device, local_ranks);
  });
}

void Trainer::check_layout() const {
  const GridShape grid = grid_.shape();
  require(config_.parallel.expert_parallel == grid.expert_parallel,
          "parallel.expert_parallel is {}, but experts are spread over {} of {} processes",
          config_.parallel.expert_parallel, grid.expert_parallel, grid.ranks);
  micro_steps_per_rank(config_.train, grid.ranks);  // throws unless the batch divides
}

/// Says on which machine the run is trained from here on.
std::string Trainer::environment_json() const {
  const nlohmann::ordered_json environment = {{"program", std::string("strand ") + program_version()},
                                              {"commit", program_commit()},
                                              {"host", host_name()},
                                              {"device", session_->device().description()},
                                              {"threads", session_->device().threads()},
                                              {"processes", layout_text(grid_.shape())},
                                              {"planned_bytes", planned_bytes_}};
  return environment.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void Trainer::open_run_directory() {
  agreed(grid_.control(), [&] {
    if (!first_rank()) return;
    make_directories(directory_);
    remove_leftovers(checkpoint_directory(directory_));
  });
  metrics_->continue_from(start_);
  if (start_.from_elsewhere) {
    checkpoints_->save(content(start_.step));
    checkpoints_->finish();
  } else if (start_.step > 0) {
    checkpoints_->begins_with(start_.step);
  }
  metrics_->open(directory_);
  if (!first_rank()) return;
  // The files of a finished run keep saying what it was trained with.
  const fs::path config = fs::path(directory_) / "config.yaml", environment = fs::path(directory_) / "environment.json";
  if (start_.step == config_.train.steps && fs::exists(config)) return;
  write_file_atomically(config.string(), to_yaml(config_));
  write_file_atomically(environment.string(), environment_json());
}

// ---- the loop -----------------------------------------------------------------------------------------------------

void Trainer::run() {
  const StopSignals signals;
  metrics_->announce(directory_, train_data_->sampler().windows(), planned_bytes_);
  const int64_t steps = config_.train.steps;
  if (start_.step == steps)
    return metrics_->news(
        fmt::format("nothing was trained: {} already has the {} steps that train.steps asks for{}", directory_, steps,
                    start_.config_changed ? ", and the changed configuration takes effect only in further steps" : ""));
  agreed(grid_.control(), [this] {
    fetch(start_.step);
    require(data_error_.empty(), "{}", data_error_);
  });
  if (first_rank()) scan_ = std::make_unique<VocabularyScan>(all_files(), config_.model.vocab_size);
  if (start_.step == 0 && val_data_) {
    const std::optional<Validation> first = validate();
    if (!first) fail_by_data(0);
    metrics_->take(0, *first);
  }
  try {
    take_steps(signals);
  } catch (const DeviceFault& fault) {
    end_by_fault(fault);
  }
}

void Trainer::take_steps(const StopSignals& signals) {
  const int64_t steps = config_.train.steps;
  for (int64_t index = start_.step; index < steps; ++index) {
    begin_step(index);
    const int64_t done = index + 1;
    end_steps(static_cast<size_t>(session_->device().steps_ahead()));
    const bool due = config_.train.checkpoint_every > 0 && done % config_.train.checkpoint_every == 0;
    checkpoints_->poll();
    if (data_error_.empty() && scan_) data_error_ = scan_->found();
    // A signal counts for all, whichever rank it reached. A batch that cannot be read counts more than any signal.
    const int64_t signal = grid_.control().all_reduce_max(data_error_.empty() ? signals.received() : unreadable_data);
    const bool last = done == steps || signal != 0;
    if (due || last || validation_due(done)) end_steps(0);
    if (signal == unreadable_data || validation_failed_) end_by_data(done);
    if (due || last) save(done);
    if (signal == 0) continue;
    checkpoints_->finish();
    write_report();
    metrics_->news(fmt::format("stopped by signal {} after step {}; --resume auto continues", signal, done));
    return metrics_->finish();
  }
  checkpoints_->finish();
  write_report();
  const std::string of_this_process =
      start_.step > 0 ? fmt::format("the last {} of them in ", steps - start_.step) : "";
  metrics_->news(fmt::format("done: {} steps, {}{} of training", steps, of_this_process,
                             format_duration(metrics_->training_seconds())));
  metrics_->finish();
}

/// A checkpoint that is being written is in host memory already, and becomes whole. Other ranks may not come any more,
/// so that only what this rank knows of checkpoints is told where there are several.
void Trainer::end_by_fault(const DeviceFault& fault) {
  std::string kept = "checkpoints that were whole are intact";
  try {
    if (grid_.ranks() == 1) {
      checkpoints_->finish();
      kept = checkpoints_->what_is_kept();
    }
  } catch (const Error& error) {
    kept = error.what();
  }
  fail("{}. Stopped; {}", fault.what(), kept);
}

void Trainer::begin_step(int64_t index) {
  StepInFlight step{.index = index, .batch = std::move(next_)};
  grid_.progress().step = index;
  // What a row holds follows from its step alone, and not from the step where this process began.
  const int64_t number = index + 1;
  step.logged = number % config_.train.log_every == 0 || number == config_.train.steps || index == 0;
  step.learning_rate = learning_rate(config_.optimizer, config_.schedule, config_.train.steps, index);
  runner_->step(
      step.batch.data, objective(step), index,
      {.optimizer = config_.optimizer,
       .learning_rate = step.learning_rate,
       .after_nonfinite = config_.train.on_nonfinite == OnNonfinite::stop ? AfterNonfinite::halt : AfterNonfinite::skip,
       .size = step.logged ? UpdateSize::measured : UpdateSize::not_measured});
  step.expert_rows = session_->transformer().expert_rows();
  fetch(index + 1);
  in_flight_.push_back(std::move(step));
}

Objective Trainer::objective(const StepInFlight& step) const {
  return {.losses = config_.losses, .asked = step.logged ? TermSet::all() : terms_of_every_step()};
}

void Trainer::end_steps(size_t most_in_flight) {
  while (in_flight_.size() > most_in_flight) {
    StepInFlight step = std::move(in_flight_.front());
    in_flight_.pop_front();
    end_step(step);
  }
}

void Trainer::end_step(StepInFlight& step) {
  const StepResult result = runner_->take_result();
  if (result.applied) {
    skipped_in_a_row_ = 0;
    applied_ = first_micro_step(std::move(step.batch.data));
  } else {
    not_applied(step, result);
  }
  StepRow row{.step = step.index + 1, .lr = step.learning_rate, .logged = step.logged};
  row.shown = step.logged || step.index == start_.step;
  row.seconds = result.seconds;
  if (row.shown && grid_.ranks() > 1)
    row.ranks = gather_rank_report(grid_.control(), row.seconds, result.traffic, step.expert_rows);
  if (row.logged) row.costs = costs_of(step, result);
  metrics_->take(row, result);
  if (validation_due(row.step)) {
    if (const std::optional<Validation> validation = validate()) metrics_->take(row.step, *validation);
  }
  metrics_->write_row();
}

StepCosts Trainer::costs_of(const StepInFlight& step, const StepResult& result) {
  return over_ranks(grid_.control(), {.parts = result.parts,
                                      .data_seconds = step.batch.seconds,
                                      .peak_bytes = static_cast<double>(session_->device().peak_bytes())});
}

/// The weights are what they were before the step. A later step that is in flight has changed them only where
/// train.on_nonfinite is skip.
void Trainer::not_applied(const StepInFlight& step, const StepResult& result) {
  const bool stop = config_.train.on_nonfinite == OnNonfinite::stop;
  checkpoints_->finish();  // so that what is said below of checkpoints is true
  const std::string kept = checkpoints_->what_is_kept();
  std::string where = "not looked for, as a later step had begun", found;
  if (in_flight_.empty() || stop) {
    // The tensors of the step are there only if it was the last thing that was enqueued, operation by operation.
    if (!in_flight_.empty() || runner_->replayed()) runner_->gradients(step.batch.data, objective(step), step.index);
    found = find_nonfinite(*session_);
    where = found.empty() ? "none found (a sum overflowed)" : found;
  }
  const std::string what = fmt::format("step {}: loss {}, gradient norm {}; first non-finite tensor: {}",
                                       step.index + 1, result.terms.loss, result.gradient_norm, where);
  if (stop) write_last_row(step, result, found);
  if (stop) fail("{}. Stopped; {}. Lower optimizer.lr, or set train.on_nonfinite: skip", what, kept);
  require(where.rfind("weight ", 0) != 0, "{}. Stopped, because no later step can be finite either; {}", what, kept);
  const int64_t most = config_.train.max_skips_in_a_row;
  require(skipped_in_a_row_ < most,
          "{}. Stopped: {} steps in a row were skipped before it (train.max_skips_in_a_row); {}", what, most, kept);
  metrics_->news(fmt::format("skipped the update of {}", what));
  ++skipped_;
  ++skipped_in_a_row_;
}

/// The row of a step with which the run ends, so that the log and the report tell where that was.
void Trainer::write_last_row(const StepInFlight& step, const StepResult& result, const std::string& where) {
  StepRow row{.step = step.index + 1, .lr = step.learning_rate, .nonfinite = where};
  row.seconds = result.seconds;
  metrics_->take(row, result);
  metrics_->write_row();
  write_report();
}

/// A report that cannot be written is no failure of the run: it is made of what the run has left, and `strand report`
/// makes it at any time. Rows that are missing in the log at the end are one (RunMetrics::finish).
void Trainer::write_report() {
  metrics_->sync();
  if (!first_rank() || !config_.run.report) return;
  const std::string path = (fs::path(directory_) / run_report::report_file).string();
  try {
    write_file_atomically(path, run_report::make_report({directory_}, 0));
    metrics_->news(fmt::format("report {}", path));
  } catch (const Error& error) {
    log_warning(fmt::format("no report of this run: {}. Nothing of the run is lost; strand report {} makes it",
                            error.what(), directory_));
  }
}

// ---- data ---------------------------------------------------------------------------------------------------------

void Trainer::fetch(int64_t index) {
  if (index >= config_.train.steps) return;
  const double begin = now();
  try {
    next_.data = train_data_->training_step(config_.train, next_sample(index), grid_.rank(), grid_.ranks());
  } catch (const Error& error) {
    data_error_ = error.what();
  }
  next_.seconds = now() - begin;
}

int64_t Trainer::next_sample(int64_t step) const {
  return start_.sample + (step - start_.step) * config_.train.global_batch_size;
}

std::vector<std::shared_ptr<const TokenFile>> Trainer::all_files() const {
  std::vector<std::shared_ptr<const TokenFile>> files = train_data_->files();
  if (!val_data_) return files;
  const std::vector<std::shared_ptr<const TokenFile>> validation = val_data_->files();
  files.insert(files.end(), validation.begin(), validation.end());
  return files;
}

bool Trainer::validation_due(int64_t step) const {
  return val_data_ && (step % config_.train.eval_every == 0 || step == config_.train.steps);
}

std::optional<Validation> Trainer::validate() {
  runner_->stop_clock();
  StepData data;
  try {
    data = val_data_->validation(config_.train.eval_batches * config_.train.global_batch_size,
                                 config_.train.micro_batch_size, grid_.rank(), grid_.ranks());
  } catch (const Error& error) {
    data_error_ = error.what();
  }
  validation_failed_ = grid_.control().all_reduce_max(static_cast<int64_t>(!data_error_.empty())) == 1;
  if (validation_failed_) return std::nullopt;
  const StepTerms terms = runner_->evaluate(data, Objective::only(config_.losses, Term::ce));
  return Validation{.loss = terms[Term::ce],
                    .tokens = grid_.control().all_reduce_sum(data.valid_targets()),
                    .bytes = grid_.control().all_reduce_sum(text_bytes(data.targets, text_bytes_))};
}

void Trainer::end_by_data(int64_t done) {
  save(done);
  checkpoints_->finish();
  fail_by_data(done);
}

void Trainer::fail_by_data(int64_t done) {
  for (const std::string& error : grid_.control().all_gather(data_error_))
    if (!error.empty()) fail("{}. Stopped after step {}; {}", error, done, checkpoints_->what_is_kept());
  fail("a batch could not be read, and no rank says why");
}

// ---- saving -------------------------------------------------------------------------------------------------------

void Trainer::save(int64_t step) {
  if (checkpoints_->has(step)) return;
  runner_->stop_clock();
  check_weights(step);
  metrics_->sync();
  checkpoints_->save(content(step));
}

/// Weights that no step can go on with must not take the place of those before them. Finite weights may be such, too:
/// sequences whose loss and gradient were finite before the last update show it, as theirs overflow after it. Those of
/// a step that was skipped do not count, as they may overflow by themselves. Costs a micro-step a checkpoint.
void Trainer::check_weights(int64_t step) {
  std::string fault;
  if (const std::string bad = nonfinite_weight(*session_); !bad.empty()) {
    fault = fmt::format("{} is not finite", bad);
  } else if (!applied_.micro_batches.empty()) {
    const Objective objective{.losses = config_.losses, .asked = terms_of_every_step()};
    const double loss = runner_->accumulate(applied_, objective, step - 1).loss, norm = runner_->gradient_norm();
    if (!std::isfinite(loss) || !std::isfinite(norm))
      fault = fmt::format("every weight is finite, but the loss is {} and the gradient norm {}", loss, norm);
  }
  if (fault.empty()) return;
  checkpoints_->finish();  // so that what is said of checkpoints is true
  fail("after step {}, {}, so no checkpoint is written. Stopped; {}. Lower optimizer.lr", step, fault,
       checkpoints_->what_is_kept());
}

CheckpointSaver::Content Trainer::content(int64_t step) const {
  CheckpointSaver::Content content;
  content.state.step = content.state.schedule_step = step;
  content.state.next_sample = next_sample(step);
  content.state.tokens = metrics_->tokens(step);
  content.state.seed = config_.run.seed;
  content.state.data = data_;
  content.state.series = {{"loss", metrics_->loss_score().values()},
                          {"grad_norm", metrics_->norm_score().values()},
                          {"skipped_updates", {static_cast<double>(skipped_)}},
                          {"skipped_in_a_row", {static_cast<double>(skipped_in_a_row_)}}};
  if (grid_.ranks() > 1) content.state.versions["layout"] = layout_text(grid_.shape());
  if (!start_.origin.empty()) content.state.versions[RunState::origin] = start_.origin;
  content.config_yaml = to_yaml(config_);
  content.tokenizer = tokenizer_;
  return content;
}

}  // namespace strand
