#include "train/step_data.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace strand {

int64_t StepData::sequences() const {
  return std::accumulate(micro_batches.begin(), micro_batches.end(), int64_t{0});
}

StepData first_micro_step(StepData data) {
  data.micro_batches.resize(1);
  data.inputs.resize(static_cast<size_t>(data.sequences() * data.tokens));
  data.targets.resize(data.inputs.size());
  return data;
}

int64_t StepData::valid_targets() const {
  return std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; });
}

StepData part_of_rank(const StepData& whole, int rank, int ranks) {
  StepData part{.tokens = whole.tokens, .micro_batches = {}, .inputs = {}, .targets = {}};
  int64_t first = 0;  // token of the micro-step
  for (const int64_t sequences : whole.micro_batches) {
    require(sequences % ranks == 0, "a micro-step of {} sequences does not divide by {} ranks", sequences, ranks);
    const int64_t rows = sequences / ranks * whole.tokens, begin = first + rank * rows;
    part.micro_batches.push_back(sequences / ranks);
    part.inputs.insert(part.inputs.end(), whole.inputs.begin() + begin, whole.inputs.begin() + begin + rows);
    part.targets.insert(part.targets.end(), whole.targets.begin() + begin, whole.targets.begin() + begin + rows);
    first += sequences * whole.tokens;
  }
  return part;
}

}  // namespace strand
