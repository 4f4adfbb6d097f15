#pragma once
// The sequences of one optimizer step.
#include <cstdint>
#include <vector>

namespace strand {

/// The sequences of one optimizer step on this rank, in order.
struct StepData {
  int64_t tokens = 0;                  ///< S, in each sequence
  std::vector<int64_t> micro_batches;  ///< sequences in each micro-step
  std::vector<int32_t> inputs;         ///< [Σ micro_batches · S]
  std::vector<int32_t> targets;        ///< [Σ micro_batches · S]; below 0 = ignored
  int64_t sequences() const;
  int64_t valid_targets() const;
};

/// The part of rank `rank` in a step whose micro-steps are given for all ranks together: its share of each micro-step
/// (as in data_feed.h). Throws Error when a micro-step does not divide.
StepData part_of_rank(const StepData& whole, int rank, int ranks);

/// The sequences of a step's first micro-step.
StepData first_micro_step(StepData data);

}  // namespace strand
