#pragma once
// What a run tells of itself while it trains: the console, log.jsonl and the TensorBoard events, and the numbers in
// them that follow from a step's result and the time it took. The first rank alone writes.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/console.h"
#include "train/event_file.h"
#include "train/rank_report.h"
#include "train/resume.h"
#include "train/run_log.h"
#include "train/step_costs.h"
#include "train/zscore.h"

namespace strand {

struct Validation {
  double loss = 0;     ///< mean cross-entropy
  int64_t tokens = 0;  ///< of all ranks
  int64_t bytes = 0;   ///< of text that they stand for; 0 = not known, as the run has no tokenizer
};

/// What is told of one step.
struct StepRow {
  int64_t step = 0;  ///< from 1
  double lr = 0;
  double seconds = 0;               ///< that the step took
  bool logged = false;              ///< a whole row, and a lasting line on the console
  bool shown = false;               ///< a lasting line
  std::optional<RankReport> ranks;  ///< how ranks compare; several ranks, shown steps
  std::optional<StepCosts> costs;   ///< of logged steps
  std::string nonfinite;            ///< where a number that is not finite was found first; "" = not looked for
};

class RunMetrics {
 public:
  RunMetrics(const Config& config, Session& session);

  /// Continues the series and the number of tokens where `start` left them.
  void continue_from(const RunStart& start);
  /// Opens the files in the directory of the run. Their rows continue from the step where the run begins.
  void open(const std::string& directory);
  /// Says what is run and where. `windows`: of the training data; `planned_bytes`: the memory of this rank.
  void announce(const std::string& directory, int64_t windows, size_t planned_bytes);
  /// say() writes to the program's log, news() a line to the console. The first rank speaks for all.
  void news(const std::string& text);
  void say(const std::string& text) const;

  /// Takes the result of a step. All ranks call this.
  void take(const StepRow& row, const StepResult& result);
  void take(int64_t step, const Validation& validation);
  /// Writes the row of the step that was taken last, with the validation after it.
  void write_row();
  /// When this returns, all rows so far are on the disk, as far as the system took them.
  void sync();
  /// At the end of a run: throws Error when rows are missing on the disk.
  void finish();

  /// How many tokens the run has seen after this step.
  int64_t tokens(int64_t step) const;
  double training_seconds() const { return seconds_; }
  /// The values of the two series that a checkpoint keeps.
  const ZScore& loss_score() const { return loss_score_; }
  const ZScore& norm_score() const { return norm_score_; }

 private:
  bool first_rank() const { return session_.grid().rank() == 0; }
  void measure_peak_again(int rounds);
  void check_peak(StepReport& report);
  double mfu(const StepReport& report) const;
  void write_events(const StepReport& report);

  const Config& config_;
  Session& session_;
  Console console_;
  std::unique_ptr<RunLog> log_;  ///< on the first rank, as is the next
  std::unique_ptr<EventFile> events_;
  ZScore loss_score_, norm_score_;
  int64_t start_ = 0, start_tokens_ = 0;
  // Of the step taken last:
  StepReport report_;
  StepRow row_;
  std::optional<double> update_ratio_, bias_range_;
  std::vector<double> expert_load_;  ///< share of each expert in its layer's selections, flat
  std::optional<Validation> validation_;

  double flops_per_token_ = 0;
  double peak_flops_ = 0;      ///< best rate measured so far, of all ranks; 0 = unknown
  double peak_measured_ = 0;   ///< when, by now()
  bool peak_doubted_ = false;  ///< the user was told that it cannot be
  double seconds_ = 0;         ///< this process has spent in steps
};

}  // namespace strand
