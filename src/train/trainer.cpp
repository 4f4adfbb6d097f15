#include "train/trainer.h"

#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "config/model_size.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/log.h"
#include "model/memory_check.h"
#include "parallel/agreement.h"
#include "train/agreed.h"
#include "train/model_state.h"
#include "train/nonfinite.h"
#include "train/rank_peak.h"
#include "train/resume_checks.h"
#include "train/schedule.h"

namespace strand {

namespace fs = std::filesystem;

namespace {
double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

std::string layout_text(const GridShape& shape) {
  return fmt::format("{} ranks, expert_parallel {}", shape.ranks, shape.expert_parallel);
}

/// Config groups whose keys a checkpoint fixes.
const std::vector<std::string> model_groups = {"model", "moe"};
/// Config groups that may change on resume; what changed is said.
const std::vector<std::string> other_groups = {"run", "losses", "data", "optimizer", "schedule", "train", "parallel", "cuda"};

/// Stands among the numbers of signals for a batch that cannot be read.
constexpr int64_t unreadable_data = 1 << 20;
}  // namespace

Trainer::~Trainer() = default;

Trainer::Trainer(Config config, const ResumeChoice& resume, Ops& ops, ProcessGrid& grid, int local_ranks)
    : config_(std::move(config)),
      grid_(grid),
      directory_(run_directory(config_.run)),
      console_(grid.ranks() > 1 ? Console::Lines::lasting_only : Console::Lines::all) {
  require(!config_.data.train.empty(), "data.train is empty: name token files to train on (see strand tokenize)");
  check_layout(grid);
  if (const std::optional<Tokenizer> tokenizer = resolve_vocabulary(config_)) tokenizer_model_ = tokenizer->bytes();
  check_config(config_);
  train_data_ = std::make_unique<DataFeed>(config_.data.train, config_);
  data_ = data_state(config_.data.train, train_data_->sampler());
  // Hosts may have copies of their own under the same path.
  require_agreement(grid.world(), "training data", to_text(data_));
  if (config_.train.eval_every > 0) {
    require(!config_.data.val.empty(), "train.eval_every is {}, but data.val is empty", config_.train.eval_every);
    val_data_ = std::make_unique<DataFeed>(config_.data.val, config_);
  }
  const SessionShape shape{Purpose::training, config_.train.micro_batch_size, config_.data.sequence_length};
  const SessionPlan plan = plan_session(config_, shape, ops.device().traits(), grid.shape());
  // Together: nobody allocates before everybody has looked at what is free.
  agreed(grid.world(), [&] {
    const AvailableMemory available = share_of(ops.device().available_memory(), local_ranks);
    check_memory(plan, available);
    if (saver_mode() == CheckpointSaver::Mode::background || grid.ranks() > 1)
      check_snapshot_memory(plan, grid.ranks(), available);
  });
  session_ = std::make_unique<Session>(ops, grid, config_, shape);
  runner_ = std::make_unique<StepRunner>(*session_);
  flops_per_token_ = model_size(config_).training_flops_per_token;
  measure_peak_again(3);
  saver_ = std::make_unique<CheckpointSaver>(checkpoint_directory(), *session_, saver_mode(),
                                             Retention{config_.train.keep, config_.train.keep_every});
  start(resume);
  open_run_directory();
}

void Trainer::check_layout(const ProcessGrid& grid) const {
  require(config_.parallel.expert_parallel == grid.shape().expert_parallel,
          "parallel.expert_parallel is {}, but experts are spread over {} of {} processes",
          config_.parallel.expert_parallel, grid.shape().expert_parallel, grid.shape().ranks);
  const int64_t batch = config_.train.global_batch_size, ranks = grid.shape().ranks;
  int64_t micro = config_.train.micro_batch_size;
  if (batch % (micro * ranks) == 0) return;
  while (micro > 1 && batch % (micro * ranks) != 0) --micro;
  fail("train.global_batch_size {} is not a multiple of micro_batch_size {} times {} ranks; {}", batch,
       config_.train.micro_batch_size, ranks,
       batch % ranks == 0 ? fmt::format("train.micro_batch_size={} would do", micro)
                          : fmt::format("take a batch that {} divides", ranks));
}

CheckpointSaver::Mode Trainer::saver_mode() const {
  return config_.train.background_checkpoints ? CheckpointSaver::Mode::background : CheckpointSaver::Mode::wait;
}

// ---- where to start -----------------------------------------------------------------------------------------------

/// The first rank chooses; all follow.
void Trainer::start(const ResumeChoice& resume) {
  Start chosen;
  agreed(grid_.world(), [&] {
    if (first_rank()) chosen = choose_start(resume, directory_, checkpoint_directory());
  });
  const std::string path = grid_.world().all_gather(chosen.checkpoint)[0];
  from_elsewhere_ = grid_.world().all_reduce_max(static_cast<int64_t>(chosen.from_elsewhere)) == 1;
  if (path.empty()) return session_->parameters().initialize(session_->ops(), config_.run.seed);
  const Checkpoint checkpoint(path, Verification::done);
  resume.weights_only ? start_from_weights(checkpoint) : continue_from(checkpoint, resume);
}

void Trainer::start_from_weights(const Checkpoint& checkpoint) {
  require_same_model(checkpoint);
  take_tokenizer(checkpoint);
  load_model(*session_, checkpoint.model());
  session_->parameters().zero_training_state(session_->ops(), Parameters::Keep::biases);
  say(fmt::format("a new run from the weights of {}", checkpoint.path()));
}

/// A model goes with its tokenizer: ids mean nothing without it, or with another one of the same size.
void Trainer::take_tokenizer(const Checkpoint& checkpoint) {
  const std::string& theirs = checkpoint.tokenizer_model();
  if (theirs.empty()) return;
  require(tokenizer_model_.empty() || tokenizer_model_ == theirs,
          "cannot continue from {}: data.tokenizer {} is not the tokenizer that its model was trained with, {}",
          checkpoint.path(), config_.data.tokenizer, checkpoint.tokenizer_path());
  tokenizer_model_ = theirs;
}

/// Returns the checkpoint's own config.
Config Trainer::require_same_model(const Checkpoint& checkpoint) const {
  Config saved = parse_config(checkpoint.config_yaml(), checkpoint.path() + "/config.yaml");
  std::string text;
  for (const std::string& d : config_differences(saved, config_, model_groups)) text += "; " + d;
  require(text.empty(), "cannot continue from {}: the model is another one{}", checkpoint.path(), text);
  return saved;
}

/// The position in the data means something only while the data is the same.
void Trainer::check_data(const Checkpoint& checkpoint, const ResumeChoice& resume) {
  const DataState& saved = checkpoint.state().data;
  if (saved.sequence_length == 0)
    return say(
        fmt::format("{} does not record what its training data held; it is taken to be the same", checkpoint.path()));
  std::string text;
  for (const std::string& d : data_differences(saved, data_)) text += "; " + d;
  if (text.empty()) return;
  require(resume.accept_data_change,
          "cannot continue from {}: the training data is not what it was{}. The position in the data, sample {}, now "
          "means another text. Restore the data, or continue with --accept-data-change: the run then goes on with "
          "sample {} of the new data, and text that was seen may come again before all has been seen",
          checkpoint.path(), text, checkpoint.state().next_sample, checkpoint.state().next_sample);
  say(fmt::format("the training data is not what it was, which --accept-data-change accepts{}", text));
}

void Trainer::continue_from(const Checkpoint& checkpoint, const ResumeChoice& resume) {
  const std::string& path = checkpoint.path();
  const Config saved = require_same_model(checkpoint);
  take_tokenizer(checkpoint);
  for (const std::string& d : config_differences(saved, config_, other_groups)) {
    say(fmt::format("changed since the checkpoint: {}", d));
    changed_ = true;
  }
  const RunState& state = checkpoint.state();
  require(state.seed == config_.run.seed,
          "cannot continue from {}: its run.seed is {}, this one's is {}, and the order of the data follows from it",
          path, state.seed, config_.run.seed);
  require(state.step <= config_.train.steps, "{} is at step {}, beyond train.steps {}", path, state.step,
          config_.train.steps);
  check_data(checkpoint, resume);
  load_model(*session_, checkpoint.model());
  load_optimizer(*session_, checkpoint.optimizer());
  start_ = state.step;
  start_sample_ = state.next_sample;
  start_tokens_ = state.tokens;
  if (!from_elsewhere_) last_saved_ = last_whole_ = start_;
  const auto series = [&](const char* name) {
    const auto it = state.series.find(name);
    return it == state.series.end() ? std::vector<double>{} : it->second;
  };
  loss_score_.restore(series("loss"));
  norm_score_.restore(series("grad_norm"));
  const std::vector<double> skipped = series("skipped_updates");
  skipped_ = skipped.empty() ? 0 : static_cast<int64_t>(skipped[0]);
  runner_->set_updates(start_ - skipped_);
  const std::vector<double> row = series("skipped_in_a_row");
  skipped_in_a_row_ = row.empty() ? 0 : static_cast<int64_t>(row[0]);
  if (const std::string jump = learning_rate_jump(saved, config_, start_); !jump.empty()) say(jump);
  if (start_ < config_.train.steps) say(fmt::format("continuing from {} at step {}", path, start_));
}

std::string Trainer::checkpoint_directory() const {
  return (fs::path(directory_) / "checkpoints").string();
}

int64_t Trainer::next_sample(int64_t step) const {
  return start_sample_ + (step - start_) * config_.train.global_batch_size;
}

int64_t Trainer::tokens(int64_t step) const {
  return start_tokens_ + (step - start_) * config_.train.global_batch_size * config_.data.sequence_length;
}

void Trainer::open_run_directory() {
  agreed(grid_.world(), [&] {
    if (!first_rank()) return;
    make_directories(directory_);
    remove_leftovers(checkpoint_directory());
  });
  if (from_elsewhere_) {
    saver_->save(content(start_));
    attend([this] { return saver_->finish(); });
    last_saved_ = start_;
  }
  if (!first_rank()) return;
  // The configuration of a run that is finished stays what it was trained with.
  if (start_ < config_.train.steps || !fs::exists(fs::path(directory_) / "config.yaml"))
    write_file_atomically((fs::path(directory_) / "config.yaml").string(), to_yaml(config_));
  const int64_t first_row = start_ == 0 ? 0 : start_ + 1;
  log_ = std::make_unique<RunLog>((fs::path(directory_) / "log.jsonl").string(), first_row);
  events_ = std::make_unique<EventFile>(directory_, first_row);
}

void Trainer::say(const std::string& text) const {
  if (first_rank()) log_info(text);
}

void Trainer::news(const std::string& text) {
  if (first_rank()) console_.news(text);
}

// ---- the loop -----------------------------------------------------------------------------------------------------

/// Other work on the machine only ever hides part of the peak, so the best rate seen so far stands.
void Trainer::measure_peak_again(int rounds) {
  const PeakKind kind = config_.run.precision == Precision::bf16 ? PeakKind::bf16 : PeakKind::fp32;
  peak_flops_ = std::max(peak_flops_, measure_peak_of_ranks(session_->device(), grid_.world(), kind, rounds));
  peak_measured_ = now();
}

/// A machine that was busy at the start may be idle now: one round (30 ms) a minute. And what exceeds the peak shows
/// that it was measured too low: several rounds at once, and a word when that does not help.
void Trainer::check_peak(StepReport& report) {
  if (peak_flops_ == 0) return;
  constexpr double minute = 60;
  if (grid_.world().all_reduce_max(static_cast<int64_t>(now() - peak_measured_ > minute)) == 1) measure_peak_again(1);
  const auto exceeded = [&] {
    report.mfu = mfu(report);
    return grid_.world().all_reduce_max(static_cast<int64_t>(report.mfu > 1)) == 1;
  };
  if (!exceeded()) return;
  measure_peak_again(7);
  if (exceeded() && !peak_doubted_) {
    news(fmt::format(
        "step {}: an MFU of {:.0f} % cannot be: the peak of {:.0f} GFLOP/s was measured too low, perhaps as "
        "other programs were running",
        report.step, 100 * report.mfu, peak_flops_ / 1e9));
    peak_doubted_ = true;
  }
}

double Trainer::mfu(const StepReport& report) const {
  return peak_flops_ > 0 ? report.tokens_per_second * flops_per_token_ / peak_flops_ : 0;
}

void Trainer::announce() {
  const ModelSize size = model_size(config_);
  const TrainConfig& t = config_.train;
  const int64_t windows = train_data_->sampler().windows();
  news(fmt::format("{}: {:.2f} M parameters, {:.2f} M of them active for a token; {:.2f} GiB of memory as planned",
                   directory_, static_cast<double>(size.parameters) / 1e6,
                   static_cast<double>(size.active_parameters) / 1e6,
                   static_cast<double>(session_->plan().bytes()) / 0x1p30));
  news(fmt::format("{} steps of {} tokens; the data is {} windows of {} tokens, of which this is {:.2f} epochs",
                   t.steps, t.global_batch_size * config_.data.sequence_length, windows, config_.data.sequence_length,
                   static_cast<double>(t.steps * t.global_batch_size) / static_cast<double>(windows)));
  if (grid_.ranks() > 1)
    news(fmt::format("{}; each has {:.2f} GiB of memory as planned", layout_text(grid_.shape()),
                     static_cast<double>(session_->plan().bytes()) / 0x1p30));
  news(session_->device().description());
  if (const std::string remark = session_->device().bf16_remark();
      config_.run.precision == Precision::bf16 && !remark.empty())
    news(remark);
  if (peak_flops_ > 0)
    news(fmt::format("measured peak of {}: {:.0f} GFLOP/s; MFU is against that",
                     grid_.ranks() > 1 ? "all ranks" : "this machine", peak_flops_ / 1e9));
}

void Trainer::run() {
  const StopSignals signals;
  announce();
  if (start_ == config_.train.steps)
    return news(fmt::format("nothing was trained: {} already has the {} steps that train.steps asks for{}", directory_,
                            config_.train.steps,
                            changed_ ? ", and the changed configuration takes effect only in further steps" : ""));
  agreed(grid_.world(), [this] {
    fetch(start_);
    require(data_error_.empty(), "{}", data_error_);
  });
  if (first_rank()) scan_ = std::make_unique<VocabularyScan>(all_files(), config_.model.vocab_size);
  if (start_ == 0 && val_data_) {
    const std::optional<Validation> first = validate(0);
    if (!first) fail_by_data(0);
    if (log_) log_->write(LogRow(0).add("val_loss", first->loss).add("val_perplexity", std::exp(first->loss)));
  }
  for (int64_t index = start_; index < config_.train.steps; ++index) {
    begin_step(index);
    const int64_t done = index + 1;
    end_steps(static_cast<size_t>(session_->device().steps_ahead()));
    const bool due = config_.train.checkpoint_every > 0 && done % config_.train.checkpoint_every == 0;
    attend([this] { return saver_->poll(); });
    if (data_error_.empty() && scan_) data_error_ = scan_->found();
    // Whichever rank it reached. A batch that cannot be read outranks every signal.
    const int64_t signal = grid_.world().all_reduce_max(data_error_.empty() ? signals.received() : unreadable_data);
    const bool last = done == config_.train.steps || signal != 0;
    if (due || last || validation_due(done) || signal == unreadable_data) end_steps(0);
    if (signal == unreadable_data || validation_failed_) end_by_data(done);
    if (due || last) save(done);
    if (signal != 0) {
      attend([this] { return saver_->finish(); });
      news(fmt::format("stopped by signal {} after step {}; --resume auto continues", signal, done));
      return;
    }
  }
  attend([this] { return saver_->finish(); });
  news(fmt::format("done: {} steps, {} of training", config_.train.steps, format_duration(seconds_)));
}

void Trainer::end_by_data(int64_t done) {
  save(done);
  attend([this] { return saver_->finish(); });
  fail_by_data(done);
}

void Trainer::fail_by_data(int64_t done) {
  for (const std::string& error : grid_.world().all_gather(data_error_))
    if (!error.empty()) fail("{}. Stopped after step {}; {}", error, done, what_is_kept());
  fail("a batch could not be read, and no rank says why");
}

void Trainer::fetch(int64_t index) {
  if (index >= config_.train.steps) return;
  try {
    next_ = train_data_->training_step(config_.train, next_sample(index), grid_.rank(), grid_.ranks());
  } catch (const Error& error) {
    data_error_ = error.what();
  }
}

std::vector<std::shared_ptr<const TokenFile>> Trainer::all_files() const {
  std::vector<std::shared_ptr<const TokenFile>> files;
  for (const DataFeed* feed : {train_data_.get(), val_data_.get()})
    for (int k = 0; feed != nullptr && k < feed->sampler().sources(); ++k)
      files.push_back(feed->sampler().source(k).file);
  return files;
}

void Trainer::begin_step(int64_t index) {
  StepInFlight step{.index = index, .data = std::move(next_), .begin = now()};
  TrafficCounts before = grid_.traffic();
  grid_.progress().step = index;
  // What a row holds follows from its step alone, not from where this process began.
  const int64_t number = index + 1;
  step.logged = number % config_.train.log_every == 0 || number == config_.train.steps || index == 0;
  step.learning_rate = learning_rate(config_.optimizer, config_.schedule, config_.train.steps, index);
  runner_->step(step.data, objective(step), index,
                {.optimizer = config_.optimizer,
                 .learning_rate = step.learning_rate,
                 .after_nonfinite =
                     config_.train.on_nonfinite == OnNonfinite::stop ? AfterNonfinite::halt : AfterNonfinite::skip});
  step.traffic = grid_.traffic();
  step.traffic -= before;
  step.expert_rows = session_->transformer().expert_rows();
  fetch(index + 1);
  in_flight_.push_back(std::move(step));
}

Objective Trainer::objective(const StepInFlight& step) const {
  return {.losses = config_.losses, .asked = step.logged ? TermSet::all() : terms_of_every_step()};
}

bool Trainer::validation_due(int64_t step) const {
  return val_data_ && (step % config_.train.eval_every == 0 || step == config_.train.steps);
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
  StepReport report{.step = step.index + 1, .steps = config_.train.steps};
  report.terms = result.terms;
  report.gradient_norm = result.gradient_norm;
  report.lr = step.learning_rate;
  if (result.applied) {
    skipped_in_a_row_ = 0;
    applied_ = first_micro_step(std::move(step.data));
  } else {
    not_applied(step, result);
  }
  const double seconds = now() - std::max(step.begin, last_end_);
  last_end_ = now();
  Row row{.report = report, .validation = {}, .ranks = {}, .logged = step.logged};
  const bool shown = step.logged || step.index == start_;
  if (shown && grid_.ranks() > 1) {
    row.ranks = gather_rank_report(grid_.world(), seconds, step.traffic, step.expert_rows);
    report.exposed_share = row.ranks->exposed_share();
  }
  measure(report, result.expert_counts, seconds);
  if (shown) check_peak(report);
  if (first_rank()) console_.step(report, shown ? Console::Kind::lasting : Console::Kind::passing);
  if (validation_due(report.step)) row.validation = validate(report.step);
  if (first_rank()) write_row(row);
}

/// The weights are what they were before the step. A later step that is in flight has changed them only where
/// train.on_nonfinite is skip.
void Trainer::not_applied(const StepInFlight& step, const StepResult& result) {
  const bool stop = config_.train.on_nonfinite == OnNonfinite::stop;
  attend([this] { return saver_->finish(); });  // so that what is said below of checkpoints is true
  std::string where = "not looked for, as a later step had begun";
  if (in_flight_.empty() || stop) {
    if (!in_flight_.empty()) runner_->gradients(step.data, objective(step), step.index);
    where = find_nonfinite(*session_);
    if (where.empty()) where = "none found (a sum overflowed)";
  }
  const std::string what = fmt::format("step {}: loss {}, gradient norm {}; first non-finite tensor: {}",
                                       step.index + 1, result.terms.loss, result.gradient_norm, where);
  if (stop) fail("{}. Stopped; {}. Lower optimizer.lr, or set train.on_nonfinite: skip", what, what_is_kept());
  require(where.rfind("weight ", 0) != 0, "{}. Stopped, because no later step can be finite either; {}", what,
          what_is_kept());
  const int64_t most = config_.train.max_skips_in_a_row;
  require(skipped_in_a_row_ < most,
          "{}. Stopped: {} steps in a row were skipped before it (train.max_skips_in_a_row); {}", what, most,
          what_is_kept());
  news(fmt::format("skipped the update of {}", what));
  ++skipped_;
  ++skipped_in_a_row_;
}

/// What follows from a step's numbers and the time it took.
void Trainer::measure(StepReport& report, const ExpertCounts& counts, double seconds) {
  seconds_ += seconds;
  report.tokens = tokens(report.step);
  report.tokens_per_second = static_cast<double>(tokens(report.step) - tokens(report.step - 1)) / seconds;
  report.mfu = mfu(report);
  report.loss_z = loss_score_.score(report.terms.loss);
  report.gradient_norm_z = norm_score_.score(report.gradient_norm);
  report.worst_expert = worst_expert_load(counts);
  expert_load_.clear();
  for (const std::vector<double>& layer : counts) {
    double total = 0;
    for (double c : layer) total += c;
    for (double c : layer) expert_load_.push_back(c / total);
  }
  report.seconds_left =
      seconds_ / static_cast<double>(report.step - start_) * static_cast<double>(config_.train.steps - report.step);
}

std::optional<Trainer::Validation> Trainer::validate(int64_t step) {
  StepData data;
  try {
    data = val_data_->validation(config_.train.eval_batches * config_.train.global_batch_size,
                                 config_.train.micro_batch_size, grid_.rank(), grid_.ranks());
  } catch (const Error& error) {
    data_error_ = error.what();
  }
  validation_failed_ = grid_.world().all_reduce_max(static_cast<int64_t>(!data_error_.empty())) == 1;
  if (validation_failed_) return std::nullopt;
  const StepTerms terms = runner_->evaluate(data, Objective::only(config_.losses, Term::ce));
  const Validation result{terms[Term::ce], grid_.world().all_reduce_sum(data.valid_targets())};
  news(fmt::format("validation after step {}: loss {:.4f}, perplexity {:.2f} ({} tokens)", step, result.loss,
                   std::exp(result.loss), result.tokens));
  if (!events_) return result;
  events_->scalar("val/loss", step, result.loss);
  events_->scalar("val/perplexity", step, std::exp(result.loss));
  events_->flush();
  return result;
}

void Trainer::write_row(const Row& of_step) {
  const auto& [report, validation, ranks, logged] = of_step;
  LogRow row(report.step);
  row.add("loss", report.terms.loss);
  report.terms.for_each_measured([&](const char* name, double value) { row.add(name, value); });
  row.add("lr", report.lr)
      .add("grad_norm", report.gradient_norm)
      .add("loss_z", report.loss_z)
      .add("grad_norm_z", report.gradient_norm_z)
      .add("tokens", report.tokens)
      .add("tokens_per_second", report.tokens_per_second)
      .add("mfu", report.mfu)
      .add("worst_expert_load", report.worst_expert);
  if (validation) row.add("val_loss", validation->loss).add("val_perplexity", std::exp(validation->loss));
  if (logged && !expert_load_.empty())
    row.add("expert_load", expert_load_, static_cast<size_t>(config_.moe.num_experts));
  if (logged && ranks) add_to(row, *ranks);
  log_->write(row);

  events_->scalar("train/loss", report.step, report.terms.loss);
  report.terms.for_each_measured([&](const char* name, double value) {
    if (std::isfinite(value)) events_->scalar(fmt::format("terms/{}", name), report.step, value);
  });
  events_->scalar("train/lr", report.step, report.lr);
  events_->scalar("train/grad_norm", report.step, report.gradient_norm);
  events_->scalar("speed/tokens_per_second", report.step, report.tokens_per_second);
  events_->scalar("experts/worst_load", report.step, report.worst_expert);
  if (logged) events_->flush();
}

void Trainer::save(int64_t step) {
  if (step == last_saved_) return;
  check_weights(step);
  if (log_) log_->sync();
  if (events_) events_->sync();
  attend([&] { return saver_->save(content(step)); });
  last_saved_ = step;
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
  attend([this] { return saver_->finish(); });  // so that what is said of checkpoints is true
  fail("after step {}, {}, so no checkpoint is written. Stopped; {}. Lower optimizer.lr", step, fault, what_is_kept());
}

CheckpointSaver::Content Trainer::content(int64_t step) const {
  CheckpointSaver::Content content;
  content.state.step = content.state.schedule_step = step;
  content.state.next_sample = next_sample(step);
  content.state.tokens = tokens(step);
  content.state.seed = config_.run.seed;
  content.state.data = data_;
  content.state.series = {{"loss", loss_score_.values()},
                          {"grad_norm", norm_score_.values()},
                          {"skipped_updates", {static_cast<double>(skipped_)}},
                          {"skipped_in_a_row", {static_cast<double>(skipped_in_a_row_)}}};
  if (grid_.ranks() > 1) content.state.versions["layout"] = layout_text(grid_.shape());
  content.config_yaml = to_yaml(config_);
  content.tokenizer_model = tokenizer_model_;
  return content;
}

std::string Trainer::what_is_kept() const {
  return last_whole_ >= 0 ? fmt::format("the checkpoint of step {} is intact", last_whole_)
                          : "no checkpoint had been written";
}

void Trainer::attend(const std::function<CheckpointSaver::Saved()>& call) {
  CheckpointSaver::Saved saved;
  try {
    saved = call();
  } catch (const std::exception& error) {
    last_whole_ = std::max(last_whole_, saver_->newest_step());
    fail("the checkpoint could not be saved: {}. Stopped; {}", error.what(), what_is_kept());
  }
  if (saved.step < 0) return;
  last_whole_ = saved.step;
  news(fmt::format("checkpoint {} (training waited {:.2f} s, the disk took {:.2f} s)", saved.path, saved.stall_seconds,
                   saved.write_seconds));
}

}  // namespace strand
