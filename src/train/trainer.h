#pragma once
// The training loop: everything between a checked configuration and a trained model on disk.
//
// The run directory `run.dir/run.name` holds config.yaml (resolved), log.jsonl (a row a step), events.* for
// TensorBoard, environment.json (on what the run was started last), report.html and checkpoints/step_*/. Row `step` s
// (from 1) describes the s-th optimizer step; row 0 the validation before it.
//
// Several ranks run the same loop, each on its own sequences. What a step does follows from numbers that all have, so
// they take every turn together; the first one alone writes files and to the console (of a checkpoint each writes its
// share), and decides where the run begins.
//
// This file has the loop. resume.h decides where a run begins, run_metrics.h says what it tells, run_checkpoints.h
// keeps its checkpoints, and step.h runs a step.
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/vocabulary_scan.h"
#include "model/session.h"
#include "train/data_feed.h"
#include "train/run_checkpoints.h"
#include "train/run_metrics.h"
#include "train/signals.h"
#include "train/step.h"

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
  /// What a step is trained on, and what it took to read that.
  struct Batch {
    StepData data;
    double seconds = 0;
  };
  /// A step that was enqueued and whose result has not been read.
  struct StepInFlight {
    int64_t index = 0;
    Batch batch;
    bool logged = false;
    double learning_rate = 0;
    int64_t expert_rows = 0;
  };

  void open_data();
  void check_layout() const;
  void check_memory_of_ranks(const SessionPlan& plan, const Device& device, int local_ranks) const;
  void open_run_directory();
  void take_steps(const StopSignals& signals);
  [[noreturn]] void end_by_fault(const DeviceFault& fault);
  std::string environment_json() const;
  bool first_rank() const { return grid_.rank() == 0; }

  void begin_step(int64_t index);
  /// Reads the results of the oldest steps until so many are left.
  void end_steps(size_t most_in_flight);
  void end_step(StepInFlight& step);
  StepCosts costs_of(const StepInFlight& step, const StepResult& result);
  /// Handles a step that was not finite. Throws Error when the run is to stop.
  void not_applied(const StepInFlight& step, const StepResult& result);
  void write_last_row(const StepInFlight& step, const StepResult& result, const std::string& where);
  void write_report();
  Objective objective(const StepInFlight& step) const;

  bool validation_due(int64_t step) const;
  /// Returns none when some rank cannot read the data. That rank's data_error_ says why.
  std::optional<Validation> validate();

  /// Reads the batch of step `index`, if there is one. An error is kept in data_error_.
  void fetch(int64_t index);
  std::vector<std::shared_ptr<const TokenFile>> all_files() const;  ///< of training and validation
  /// Throws Error on all ranks when some of these files were made with another tokenizer. Null: none is known.
  void check_tokenizer_of_data(const Tokenizer* tokenizer) const;
  /// Saves what was trained and throws the error in the data that some rank has met.
  [[noreturn]] void end_by_data(int64_t done);
  [[noreturn]] void fail_by_data(int64_t done);

  void save(int64_t step);
  /// Throws Error when the weights after `step` are of no use.
  void check_weights(int64_t step);
  CheckpointSaver::Content content(int64_t step) const;
  /// Index of the sample that the step after `step` begins with.
  int64_t next_sample(int64_t step) const;

  Config config_;
  ProcessGrid& grid_;
  std::string directory_;
  NamedFiles tokenizer_;             ///< its files; empty = none
  std::vector<int32_t> text_bytes_;  ///< by id (data/text_bytes.h); empty = no tokenizer
  std::unique_ptr<DataFeed> train_data_;
  std::unique_ptr<DataFeed> val_data_;
  DataState data_;            ///< what train_data_ and val_data_ hold
  size_t planned_bytes_ = 0;  ///< memory of this rank
  std::unique_ptr<Session> session_;
  std::unique_ptr<StepRunner> runner_;
  std::unique_ptr<RunMetrics> metrics_;
  std::unique_ptr<RunCheckpoints> checkpoints_;
  RunStart start_;
  int64_t skipped_ = 0;                   ///< updates left out because of non-finite numbers
  int64_t skipped_in_a_row_ = 0;          ///< of these, the ones since the last update
  Batch next_;                            ///< of the next step
  std::deque<StepInFlight> in_flight_;    ///< oldest first
  StepData applied_;                      ///< the first micro-step of the last step whose update was made
  bool validation_failed_ = false;        ///< some rank could not read the validation data
  std::string data_error_;                ///< of this rank: an id outside the vocabulary, with its place
  std::unique_ptr<VocabularyScan> scan_;  ///< on the first rank
};

}  // namespace strand
