#pragma once
// What a resumed run compares with its checkpoint before its first step: whether the training data is what it was, and
// whether the learning rate jumps.
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "data/sampler.h"

namespace strand {

/// Describes the files that the samples of `train` are cut from, with a fingerprint of each, and those of `validation`
/// (null = none). Reads at most 64 MiB of each.
DataState data_state(const DataConfig& config, const Sampler& train, const Sampler* validation);

/// One line for the sequence length and one for each source. Lines are equal where samples are the same text.
std::string to_text(const DataState& data);

/// Differences between the data of a checkpoint and that of now, one a line of text, for people; none where every
/// sample is the same text as before. Paths do not count, only what the files hold; of weights only the ratios count.
std::vector<std::string> data_differences(const DataState& saved, const DataState& now);

/// "" or a sentence on validation data that is not what it was, after which validation losses are of another text.
std::string validation_difference(const DataState& saved, const DataState& now);

/// "" or a sentence on a learning rate that jumps at step `start` (from 0) because the schedule, its rates or the
/// number of steps changed: from the rate of the last step before it to that of this one, when they differ by more than
/// 1 % and the old configuration would have continued otherwise.
std::string learning_rate_jump(const Config& saved, const Config& now, int64_t start);

}  // namespace strand
