#pragma once
// Where a run begins: from nothing, from a checkpoint, or from a checkpoint's weights; and what must be the same for it
// to go on from a checkpoint as if it had never stopped.
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "train/start.h"
#include "train/step.h"

namespace strand {

/// What this process begins with.
struct RunStart {
  int64_t step = 0;                   ///< steps done before
  int64_t sample = 0;                 ///< index of the first sample after them
  int64_t tokens = 0;                 ///< trained on in them
  int64_t skipped = 0;                ///< updates left out because of non-finite numbers
  int64_t skipped_in_a_row = 0;       ///< of these, the ones since the last update
  std::vector<double> losses, norms;  ///< of the last steps, for ZScore
  NamedFiles tokenizer;               ///< its files; empty = none
  bool from_elsewhere = false;        ///< from a checkpoint that is not in this run's directory
  bool config_changed = false;        ///< the configuration is not the checkpoint's
  std::string origin;                 ///< the model class from which the weights were imported; "" = none
};

/// What a run brings along.
struct RunSetting {
  const Config& config;
  const DataState& data;                        ///< what its training data holds
  const NamedFiles& tokenizer;                  ///< the files of the one that its configuration names; empty = none
  std::string directory;                        ///< of the run
  std::string checkpoints;                      ///< directory of its checkpoints
  std::function<void(const std::string&)> say;  ///< for the log of the program
};

/// Loads the model that the run begins with into the session, or initializes it. The first rank chooses the checkpoint
/// and all follow; all call this together. Throws Error naming what differs when the run cannot continue from it.
RunStart start_run(const RunSetting& run, const ResumeChoice& resume, Session& session, StepRunner& runner);

}  // namespace strand
