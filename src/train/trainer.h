#pragma once
// The training loop: everything between a checked configuration and a trained model on disk.
//
// The run directory `run.dir/run.name` holds config.yaml (resolved), log.jsonl (a row a step), events.* for TensorBoard
// and checkpoints/step_*/. Row `step` s (from 1) describes the s-th optimizer step; row 0 the validation before it.
//
// Several ranks run the same loop, each on its own sequences. What a step does follows from numbers that all have, so
// they take every turn together; the first one alone writes files and to the console (of a checkpoint each writes its
// share), and decides where the run begins.
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/vocabulary_scan.h"
#include "model/session.h"
#include "train/checkpoint_saver.h"
#include "train/console.h"
#include "train/data_feed.h"
#include "train/event_file.h"
#include "train/rank_report.h"
#include "train/run_log.h"
#include "train/signals.h"
#include "train/start.h"
#include "train/step.h"
#include "train/zscore.h"

namespace strand {

class Trainer {
 public:
  /// Opens data and tokenizer, plans memory, allocates, and loads or initializes the model. Nothing is written before
  /// all of that succeeded. `local_ranks` processes of the run share this host's memory.
  Trainer(Config config, const ResumeChoice& resume, Ops& ops, ProcessGrid& grid, int local_ranks = 1);
  ~Trainer();

  /// Trains to the end, or to a signal. Throws Error on a non-finite loss or gradient (train.on_nonfinite: stop).
  void run();

 private:
  struct Validation {
    double loss = 0;  ///< mean cross-entropy
    int64_t tokens = 0;
  };
  void check_layout(const ProcessGrid& grid) const;
  void start(const ResumeChoice& resume);
  void start_from_weights(const Checkpoint& checkpoint);
  void continue_from(const Checkpoint& checkpoint, const ResumeChoice& resume);
  Config require_same_model(const Checkpoint& checkpoint) const;
  void take_tokenizer(const Checkpoint& checkpoint);
  std::string checkpoint_directory() const;
  CheckpointSaver::Mode saver_mode() const;
  void open_run_directory();
  void measure_peak_again(int rounds);
  void check_peak(StepReport& report);
  double mfu(const StepReport& report) const;
  void announce();
  /// A step that was enqueued and whose result has not been read.
  struct StepInFlight {
    int64_t index = 0;
    StepData data;
    double begin = 0;  ///< when it was begun, by now()
    bool logged = false;
    double learning_rate = 0;
    TrafficCounts traffic;
    int64_t expert_rows = 0;
  };
  void begin_step(int64_t index);
  /// Reads the results of the oldest steps until so many are left.
  void end_steps(size_t most_in_flight);
  void end_step(StepInFlight& step);
  /// The step was not finite. Throws when the run is to stop.
  void not_applied(const StepInFlight& step, const StepResult& result);
  Objective objective(const StepInFlight& step) const;
  bool validation_due(int64_t step) const;
  /// Takes the batch of step `index`, if there is one. What goes wrong is kept in data_error_.
  void fetch(int64_t index);
  std::vector<std::shared_ptr<const TokenFile>> all_files() const;  ///< of training and validation
  /// Saves what was trained and throws the error in the data that some rank has met.
  [[noreturn]] void end_by_data(int64_t done);
  [[noreturn]] void fail_by_data(int64_t done);
  void check_data(const Checkpoint& checkpoint, const ResumeChoice& resume);
  void measure(StepReport& report, const ExpertCounts& counts, double seconds);
  bool first_rank() const { return grid_.rank() == 0; }
  /// For the log of the program and the console: the first rank speaks for all.
  void say(const std::string& text) const;
  void news(const std::string& text);
  /// None when some rank cannot read the data; data_error_ there says why.
  std::optional<Validation> validate(int64_t step);
  struct Row {
    const StepReport& report;
    std::optional<Validation> validation;
    std::optional<RankReport> ranks;
    bool logged = false;
  };
  void write_row(const Row& row);
  void save(int64_t step);
  /// Throws Error when the weights after `step` are of no use.
  void check_weights(int64_t step);
  CheckpointSaver::Content content(int64_t step) const;
  /// Runs what may wait for a checkpoint, and tells of the one that became whole; its error says what is left.
  void attend(const std::function<CheckpointSaver::Saved()>& call);
  std::string what_is_kept() const;
  /// Index of the sample that the step after `step` begins with, and tokens trained on so far.
  int64_t next_sample(int64_t step) const;
  int64_t tokens(int64_t step) const;

  Config config_;
  ProcessGrid& grid_;
  std::string directory_;
  std::string tokenizer_model_;  ///< bytes; "" = none
  std::unique_ptr<DataFeed> train_data_;
  std::unique_ptr<DataFeed> val_data_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<RunLog> log_;        ///< these two on the first rank
  std::unique_ptr<EventFile> events_;  //
  std::unique_ptr<CheckpointSaver> saver_;
  Console console_;
  ZScore loss_score_, norm_score_;
  bool from_elsewhere_ = false;           ///< starts from a checkpoint that is not in this run's directory
  int64_t start_ = 0;                     ///< steps done before this process
  int64_t start_sample_ = 0;              ///< index of the first sample after them
  int64_t start_tokens_ = 0;              ///< trained on in them
  std::vector<double> expert_load_;       ///< share of each expert in its layer's selections of the last step, flat
  int64_t last_saved_ = -1;               ///< step of the newest checkpoint, begun or done
  int64_t last_whole_ = -1;               ///< step of the newest that is on the disk
  int64_t skipped_ = 0;                   ///< updates left out because of non-finite numbers
  int64_t skipped_in_a_row_ = 0;          ///< of these, the ones since the last update
  StepData next_;                         ///< the batch of the next step
  std::deque<StepInFlight> in_flight_;    ///< oldest first
  double last_end_ = 0;                   ///< when the result of the last step was read, by now()
  StepData applied_;                      ///< the first micro-step of the last step whose update was made
  bool validation_failed_ = false;        ///< some rank could not read the validation data
  std::string data_error_;                ///< of this rank: an id outside the vocabulary, with its place
  std::unique_ptr<VocabularyScan> scan_;  ///< on the first rank
  DataState data_;                        ///< what train_data_ holds
  bool changed_ = false;                  ///< the configuration is not the checkpoint's
  double peak_flops_ = 0;                 ///< best rate measured so far, of all ranks; 0 = unknown
  double peak_measured_ = 0;              ///< when, by now()
  bool peak_doubted_ = false;             ///< the user was told that it cannot be
  double flops_per_token_ = 0;
  double seconds_ = 0;  ///< this process has spent in steps
};

}  // namespace strand
