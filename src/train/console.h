#pragma once
// What a person sees while a model trains: one line for each logged step, and news (validation, checkpoints) on lines
// of their own. On a terminal there is also a status line that is rewritten in place, so that the news stays readable.
//
// Training does not depend on it: where lines cannot be written (the reader of a pipe is gone, the disk is full), that
// is said once on standard error, and training goes on.
#include <string>
#include <vector>

#include "train/step.h"

namespace strand {

/// The numbers of one step.
struct StepReport {
  int64_t step = 0;   ///< from 1
  int64_t steps = 0;  ///< in the whole run
  StepTerms terms;
  double lr = 0;
  double gradient_norm = 0;
  int64_t tokens = 0;  ///< seen by the run so far
  double tokens_per_second = 0;
  double mfu = 0;             ///< of the measured peak; 0 = unknown
  double exposed_share = -1;  ///< of the step, that ranks waited for messages; below 0 = not known
  double worst_expert = 0;    ///< largest load of an expert over the mean load of its layer
  double seconds_left = 0;
  double loss_z = 0, gradient_norm_z = 0;  ///< ZScore
};

class Console {
 public:
  /// Without lasting_only a terminal shows passing lines too. A launcher of several processes (mpirun) gives them what
  /// looks like a terminal wherever its own output goes, so there they would end in files.
  enum class Lines : uint8_t { all, lasting_only };
  explicit Console(Lines lines);
  /// A lasting line stays, and may be longer than the terminal is wide. A passing one shows only as a terminal's status
  /// line, until the next, and is made to fit, however wide the terminal is at that moment.
  enum class Kind : uint8_t { lasting, passing };
  void step(const StepReport& report, Kind kind);
  /// Writes a lasting line.
  void news(const std::string& text);

 private:
  void write(const std::string& text);
  bool terminal_;
  bool status_shown_ = false;
  bool silent_ = false;  ///< nobody reads any more
  bool lost_said_ = false;
};

std::string format_step(const StepReport& report);
/// The line of a step in at most `columns` columns. The parts that a reader misses least are left out first, and the
/// number of the step last.
std::string format_step(const StepReport& report, int columns);
/// "3 h 05 min", "12 min 30 s", "45 s"
std::string format_duration(double seconds);
/// The largest count of an expert over the mean count of its layer, over all layers; 0 without MoE layers.
double worst_expert_load(const std::vector<std::vector<double>>& counts);

}  // namespace strand
