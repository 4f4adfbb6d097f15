#pragma once
// Where a run begins: from nothing, from a checkpoint, or from a checkpoint's weights; and what must be the same for it
// to go on from a checkpoint as if it had never stopped.
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "data/tokenizer.h"
#include "train/start.h"
#include "train/step.h"

namespace strand {

/// What this process begins with.
struct RunStart {
  int64_t step = 0;                   ///< steps that were done before
  int64_t sample = 0;                 ///< index of the first sample after them
  int64_t tokens = 0;                 ///< that the model was trained on in these steps
  int64_t skipped = 0;                ///< updates that were left out because of non-finite numbers
  int64_t skipped_in_a_row = 0;       ///< those of them since the last update that was made
  std::vector<double> losses, norms;  ///< of the last steps, with which ZScore goes on
  NamedFiles tokenizer;         ///< the files of the model's tokenizer, and those of carried_files.h; empty = none
  bool from_elsewhere = false;  ///< the run begins from a checkpoint that is not in its own directory
  bool config_changed = false;  ///< the configuration differs from the checkpoint's
  std::string origin;           ///< the model class from which the weights were imported; "" = none
};

/// What a run brings along.
struct RunSetting {
  const Config& config;
  const DataState& data;        ///< what its training and validation data hold
  const NamedFiles& tokenizer;  ///< the files of the one that its configuration names; empty = none
  std::string directory;        ///< of the run
  std::string checkpoints;      ///< directory of its checkpoints
  /// Throws Error on all ranks when the data was made with another tokenizer than this one.
  std::function<void(const Tokenizer*)> check_tokenizer;
  std::function<void(const std::string&)> say;  ///< for the log of the program
};

/// Loads the model that the run begins with into the session, or initializes it. The first rank chooses the checkpoint
/// and all follow; all call this together. Throws Error naming what differs when the run cannot continue from it.
RunStart start_run(const RunSetting& run, const ResumeChoice& resume, Session& session, StepRunner& runner);

}  // namespace strand
