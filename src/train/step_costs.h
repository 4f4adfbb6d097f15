#pragma once
// What a step cost the machine, as logged rows of log.jsonl have it:
//   step_seconds   {"forward", "head", "backward", "update", "exchange", "data"}: seconds of the parts of the step
//                  (step_parts.h), and of the reading of its batch; means over ranks. Not on a GPU, for which nobody
//                  waits within a step
//   peak_bytes     the most memory of its device that a rank has held so far
#include <optional>

#include "parallel/control_channel.h"
#include "train/run_log.h"
#include "train/step_parts.h"

namespace strand {

struct StepCosts {
  std::optional<PartSeconds> parts;
  double data_seconds = 0;
  double peak_bytes = 0;
};

/// All ranks call this, each with its own costs: the means of the seconds, and the largest peak.
StepCosts over_ranks(ControlChannel& hosts, const StepCosts& mine);

void add_to(LogRow& row, const StepCosts& costs);

}  // namespace strand
