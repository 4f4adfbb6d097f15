#include "train/data_feed.h"

#include <algorithm>

#include "config/batch.h"
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

std::vector<std::shared_ptr<const TokenFile>> DataFeed::files() const {
  std::vector<std::shared_ptr<const TokenFile>> files;
  for (int k = 0; k < sampler_.sources(); ++k) files.push_back(sampler_.source(k).file);
  return files;
}

/// `fetch(index, tokens [S + 1])` supplies the sequences of this rank. They are numbered over all ranks, micro-step by
/// micro-step, and within a micro-step rank by rank.
template <typename Fetch>
StepData DataFeed::collect(std::vector<int64_t> micro_batches, int rank, int ranks, const Fetch& fetch) const {
  const int64_t s = sampler_.sequence_length();
  StepData data{.tokens = s, .micro_batches = std::move(micro_batches)};
  std::vector<int32_t> window(static_cast<size_t>(s + 1));
  data.inputs.reserve(static_cast<size_t>(data.sequences() * s));
  data.targets.reserve(data.inputs.capacity());
  int64_t first = 0;
  for (const int64_t sequences : data.micro_batches) {
    for (int64_t i = 0; i < sequences; ++i) {
      fetch(first + rank * sequences + i, window.data());
      data.inputs.insert(data.inputs.end(), window.begin(), window.end() - 1);
      data.targets.insert(data.targets.end(), window.begin() + 1, window.end());
    }
    first += sequences * ranks;
  }
  return data;
}

StepData DataFeed::training_step(const TrainConfig& train, int64_t first, int rank, int ranks) const {
  const auto micro_steps = static_cast<size_t>(micro_steps_per_rank(train, ranks));
  return collect(std::vector<int64_t>(micro_steps, train.micro_batch_size), rank, ranks,
                 [&](int64_t index, int32_t* tokens) { sampler_.sample(first + index, tokens); });
}

int64_t spread_window(int64_t index, int64_t chosen, int64_t windows) {
  __extension__ using int128 = __int128;  // the product may pass 64 bits
  return static_cast<int64_t>((2 * int128{index} + 1) * windows / (2 * int128{chosen}));
}

StepData DataFeed::validation(int64_t sequences, int64_t micro_batch, int rank, int ranks) const {
  const int64_t available = sampler_.windows();
  const int64_t total = sequences > 0 ? std::min(sequences, available) : available;
  const int64_t per_micro_step = micro_batch * ranks;
  std::vector<int64_t> micro_batches(static_cast<size_t>(total / per_micro_step), micro_batch);
  if (const int64_t rest = total % per_micro_step; rest > 0) micro_batches.push_back((rest + ranks - 1) / ranks);
  int64_t missing = 0;  // of this rank, and its last ones
  StepData data = collect(std::move(micro_batches), rank, ranks, [&](int64_t index, int32_t* tokens) {
    missing += index >= total;
    sampler_.window(spread_window(std::min(index, total - 1), total, available), tokens);
  });
  std::fill(data.targets.end() - missing * data.tokens, data.targets.end(), -1);
  return data;
}

}  // namespace strand
