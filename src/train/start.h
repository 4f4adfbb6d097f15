#pragma once
// Decides whether a run begins from nothing or from a checkpoint, and from which one.
#include <string>

#include "config/config.h"

namespace strand {

/// The directory of a run: run.dir/run.name.
std::string run_directory(const RunConfig& run);

/// `auto` continues from the run directory's newest checkpoint when there is one; `never` refuses a run directory that
/// holds a run; any other text is a checkpoint, or a directory of checkpoints, to continue from.
/// With weights_only the named checkpoint gives nothing but its weights: a new run starts from them (fine-tuning).
/// A run that starts from another run's checkpoint saves one of its own before its first step, so that `auto` continues
/// it from there and never from nothing.
struct ResumeChoice {
  std::string text = "auto";
  bool weights_only = false;
  /// Continue although the training data, or how it is cut into samples, is not what it was.
  bool accept_data_change = false;
};

struct Start {
  std::string checkpoint;       ///< verified; "" = from nothing
  bool from_elsewhere = false;  ///< it is not one of the run's own
};

/// Reads every byte of the checkpoint: on several ranks the first one does it for all. Throws Error when the choice and
/// what is on the disk do not agree. `checkpoints` is the run's own directory of them, in `run_directory`.
Start choose_start(const ResumeChoice& resume, const std::string& run_directory, const std::string& checkpoints);

}  // namespace strand
