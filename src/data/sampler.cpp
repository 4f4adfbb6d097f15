#include "data/sampler.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "data/permutation.h"

namespace strand {

namespace {
__extension__ using uint128 = unsigned __int128;
constexpr int share_bits = 62;

// round(n * share), exact for every n >= 0. A double would lose the last digits past 2^53.
int64_t taken(int64_t n, uint64_t share) {
  const uint128 half = uint128{1} << (share_bits - 1);
  return static_cast<int64_t>((static_cast<uint128>(n) * share + half) >> share_bits);
}

uint64_t epoch_key(uint64_t seed, size_t source, int64_t epoch) {
  return hash_key(seed, fmt::format("windows of source {} in epoch {}", source, epoch));
}
}  // namespace

Sampler::Sampler(std::vector<Source> sources, int64_t sequence_length, int64_t vocab_size, uint64_t seed)
    : sequence_length_(sequence_length), vocab_size_(vocab_size), seed_(seed) {
  require(!sources.empty(), "there is no token file to sample from");
  require(sequence_length > 0, "a sequence length of {} tokens", sequence_length);
  double remaining = 0;
  for (const Source& source : sources) {
    require(std::isfinite(source.weight) && source.weight > 0, "{}: a source's weight must be positive, it is {}",
            source.file->path(), source.weight);
    remaining += source.weight;
  }
  for (size_t k = 0; k < sources.size(); ++k) {
    const int64_t tokens = sources[k].file->tokens();
    require(tokens > sequence_length, "{} has {} tokens; one window of sequence_length + 1 = {} does not fit",
            sources[k].file->path(), tokens, sequence_length + 1);
    const bool last = k + 1 == sources.size();
    const double share = last ? 1.0 : std::min(1.0, sources[k].weight / remaining);
    remaining -= sources[k].weight;
    parts_.push_back(
        {sources[k], (tokens - 1) / sequence_length, static_cast<uint64_t>(std::ldexp(share, share_bits))});
  }
}

Sampler::Location Sampler::locate(int64_t index) const {
  require(index >= 0, "sample {} does not exist", index);
  size_t k = 0;
  int64_t number = index;  // number among the samples that source k and all later sources share
  for (;; ++k) {
    const int64_t before = taken(number, parts_[k].share);
    if (k + 1 == parts_.size()) break;  // the last source takes all samples that are left
    if (taken(number + 1, parts_[k].share) > before) {
      number = before;
      break;
    }
    number -= before;
  }
  const int64_t epoch = number / parts_[k].windows, position = number % parts_[k].windows;
  return {static_cast<int>(k), epoch, permute(position, parts_[k].windows, epoch_key(seed_, k, epoch))};
}

void Sampler::sample(int64_t index, int32_t* tokens) const {
  const Location location = locate(index);
  read(parts_[static_cast<size_t>(location.source)], location.window, tokens);
}

void Sampler::window(int64_t index, int32_t* tokens) const {
  require(index >= 0 && index < windows(), "window {} of {} does not exist", index, windows());
  size_t k = 0;
  while (index >= parts_[k].windows) index -= parts_[k++].windows;
  read(parts_[k], index, tokens);
}

void Sampler::read(const Part& part, int64_t window, int32_t* tokens) const {
  part.source.file->read(window * sequence_length_, sequence_length_ + 1, vocab_size_, tokens);
}

int64_t Sampler::windows() const {
  int64_t sum = 0;
  for (const Part& part : parts_) sum += part.windows;
  return sum;
}

int64_t Sampler::windows(int source) const {
  return parts_.at(static_cast<size_t>(source)).windows;
}

}  // namespace strand
