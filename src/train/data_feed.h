#pragma once
// Which samples an optimizer step is made of, for one rank. A step takes the next B samples of the run; micro-step m
// takes N·b of them, rank r the r-th b. So every layout sees the same samples in the same step.
#include "config/config.h"
#include "data/sampler.h"
#include "train/step.h"

namespace strand {

class DataFeed {
 public:
  /// Opens the token files of `sources`; ids are checked against the vocabulary as they are read.
  DataFeed(const std::vector<DataSource>& sources, const Config& config);

  /// The step that begins with sample `first` of the run, for rank `rank` of `ranks`.
  StepData training_step(const TrainConfig& train, int64_t first, int rank, int ranks) const;
  /// The first `batches` micro-batches of the windows in file order, shared out among ranks; fewer when there are
  /// fewer.
  StepData validation(const TrainConfig& train, int64_t batches, int rank, int ranks) const;
  const Sampler& sampler() const { return sampler_; }

 private:
  template <typename Fetch>
  StepData collect(int64_t micro_steps, int64_t sequences, const Fetch& fetch) const;

  Sampler sampler_;
};

}  // namespace strand
