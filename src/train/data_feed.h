#pragma once
// Which samples an optimizer step of one rank is made of. A step takes the next B samples of the run. Micro-step m
// takes N·b of them, and rank r takes the r-th b of those. So every layout sees the same samples in the same step.
#include <memory>
#include <vector>

#include "config/config.h"
#include "data/sampler.h"
#include "train/step.h"

namespace strand {

class DataFeed {
 public:
  /// Opens the token files of `sources`; ids are checked against the vocabulary as they are read.
  DataFeed(const std::vector<DataSource>& sources, const Config& config);

  /// The batches of rank `rank` of `ranks` in the step that begins with sample `first` of the run.
  StepData training_step(const TrainConfig& train, int64_t first, int rank, int ranks) const;
  /// `sequences` windows spread evenly over all the files (0 or more than there are: all windows), in file order and in
  /// micro-batches of at most `micro_batch` for each rank: the same windows in every layout and at every call. Where
  /// they do not divide by the ranks, the last micro-batch is filled up with sequences without a valid target.
  StepData validation(int64_t sequences, int64_t micro_batch, int rank, int ranks) const;
  const Sampler& sampler() const { return sampler_; }
  std::vector<std::shared_ptr<const TokenFile>> files() const;

 private:
  template <typename Fetch>
  StepData collect(std::vector<int64_t> micro_batches, int rank, int ranks, const Fetch& fetch) const;

  Sampler sampler_;
};

/// The number of the `index`-th window when `chosen` of `windows` windows are taken, evenly spread: the middle one of
/// the `index`-th of `chosen` equal parts. 0 <= index < chosen <= windows.
int64_t spread_window(int64_t index, int64_t chosen, int64_t windows);

}  // namespace strand
