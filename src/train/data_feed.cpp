#include "train/data_feed.h"

#include <algorithm>

#include "core/error.h"

namespace strand {

namespace {
std::vector<Sampler::Source> open_sources(const std::vector<DataSource>& sources) {
  std::vector<Sampler::Source> open;
  for (const DataSource& s : sources)
    open.push_back({std::make_shared<const TokenFile>(s.path, parse_token_format(s.format)), s.weight});
  return open;
}
}  // namespace

DataFeed::DataFeed(const std::vector<DataSource>& sources, const Config& config)
    : sampler_(open_sources(sources), config.data.sequence_length, config.model.vocab_size, config.run.seed) {}

/// `fetch(micro_step, sequence, tokens [S + 1])` supplies each sequence.
template <typename Fetch>
StepData DataFeed::collect(int64_t micro_steps, int64_t sequences, const Fetch& fetch) const {
  const int64_t s = sampler_.sequence_length();
  StepData data{.tokens = s, .micro_batches = std::vector<int64_t>(static_cast<size_t>(micro_steps), sequences)};
  std::vector<int32_t> window(static_cast<size_t>(s + 1));
  data.inputs.reserve(static_cast<size_t>(micro_steps * sequences * s));
  data.targets.reserve(data.inputs.capacity());
  for (int64_t m = 0; m < micro_steps; ++m) {
    for (int64_t i = 0; i < sequences; ++i) {
      fetch(m, i, window.data());
      data.inputs.insert(data.inputs.end(), window.begin(), window.end() - 1);
      data.targets.insert(data.targets.end(), window.begin() + 1, window.end());
    }
  }
  return data;
}

StepData DataFeed::training_step(const TrainConfig& train, int64_t first, int rank, int ranks) const {
  const int64_t sequences = train.micro_batch_size, per_micro_step = sequences * ranks;
  return collect(train.global_batch_size / per_micro_step, sequences, [&](int64_t m, int64_t i, int32_t* tokens) {
    sampler_.sample(first + m * per_micro_step + rank * sequences + i, tokens);
  });
}

StepData DataFeed::validation(const TrainConfig& train, int64_t batches, int rank, int ranks) const {
  const int64_t available = sampler_.windows();
  const int64_t sequences = std::min(train.micro_batch_size, available / ranks);
  require(sequences > 0, "the validation data has {} windows of {} tokens, fewer than the {} ranks", available,
          sampler_.sequence_length(), ranks);
  const int64_t per_micro_step = sequences * ranks;
  const int64_t whole = available / per_micro_step;
  return collect(batches > 0 ? std::min(batches, whole) : whole, sequences, [&](int64_t m, int64_t i, int32_t* tokens) {
    sampler_.window(m * per_micro_step + rank * sequences + i, tokens);
  });
}

}  // namespace strand
