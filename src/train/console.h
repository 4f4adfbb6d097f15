#pragma once
// What a person sees while a model trains: one line a logged step, news (validation, checkpoints) on lines of their
// own, and on a terminal a status line that is rewritten in place, so that the news stays readable.
#include <string>
#include <vector>

#include "train/step.h"

namespace strand {

/// Numbers of one step.
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
  /// A lasting line stays; a passing one shows only as a terminal's status line, until the next.
  enum class Kind : uint8_t { lasting, passing };
  void step(const StepReport& report, Kind kind);
  /// A lasting line.
  void news(const std::string& text);

 private:
  void clear_status();
  bool terminal_;
  bool status_shown_ = false;
};

std::string format_step(const StepReport& report);
/// "3 h 05 min", "12 min 30 s", "45 s"
std::string format_duration(double seconds);
/// max over layers and experts of count / mean count of the layer; 0 without MoE layers
double worst_expert_load(const std::vector<std::vector<double>>& counts);

}  // namespace strand
