#pragma once
// What one optimizer step takes of one rank, and how a step is shared out.
#include "config/config.h"
#include "core/error.h"
#include "kernels/plan/plan_ops.h"
#include "parallel/group_traffic.h"

namespace strand {

struct StepWork {
  PlanCounts ops;        ///< by operation family
  GroupTraffic traffic;  ///< by group and kind
};

/// Micro-steps of each rank in one optimizer step. Throws Error with the numbers unless sequences divide evenly.
inline int64_t micro_steps_per_rank(const TrainConfig& train, int64_t ranks) {
  require(train.global_batch_size % (train.micro_batch_size * ranks) == 0,
          "train.global_batch_size {} is not a multiple of train.micro_batch_size {} times {} ranks = {}",
          train.global_batch_size, train.micro_batch_size, ranks, train.micro_batch_size * ranks);
  return train.global_batch_size / (train.micro_batch_size * ranks);
}

}  // namespace strand
