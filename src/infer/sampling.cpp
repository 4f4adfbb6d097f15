#include "infer/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace strand {

namespace {
void penalize(std::vector<double>& logits, std::span<const int32_t> history, double penalty) {
  if (penalty == 1.0) return;
  std::vector<bool> seen(logits.size());
  for (int32_t id : history) seen.at(static_cast<size_t>(id)) = true;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (seen[id]) logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
  }
}

/// The likelihood of each id, divided by that of the most likely one.
std::vector<double> relative_weights(const std::vector<double>& logits, double temperature) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights;
  weights.reserve(logits.size());
  for (double x : logits) weights.push_back(std::exp((x - largest) / temperature));
  return weights;
}

double sum_of(const std::vector<double>& weights, const std::vector<int32_t>& ids) {
  double sum = 0;
  for (int32_t id : ids) sum += weights[static_cast<size_t>(id)];
  return sum;
}

/// The ids that the filters leave, in ascending order. Not all ids are sorted: a heap gives the most likely ones one
/// after the other, as many as a filter needs.
std::vector<int32_t> kept_ids(const std::vector<double>& weights, const SamplingOptions& options) {
  std::vector<int32_t> ids(weights.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto weight = [&](int32_t id) { return weights[static_cast<size_t>(id)]; };
  const auto less_likely = [&](int32_t a, int32_t b) { return weight(a) != weight(b) ? weight(a) < weight(b) : a > b; };
  const auto keep_likeliest = [&](const auto& enough) {  // enough(number kept, their weight)
    std::make_heap(ids.begin(), ids.end(), less_likely);
    double mass = 0;
    auto end = ids.end();
    while (end != ids.begin() && !enough(ids.end() - end, mass)) {
      std::pop_heap(ids.begin(), end, less_likely);
      mass += weight(*--end);
    }
    ids.erase(ids.begin(), end);
  };
  if (options.top_k > 0) keep_likeliest([&](int64_t count, double) { return count == options.top_k; });
  if (options.top_p < 1) {
    const double wanted = options.top_p * sum_of(weights, ids);
    keep_likeliest([&](int64_t count, double mass) { return count > 0 && mass >= wanted; });
  }
  std::erase_if(ids, [&](int32_t id) { return weight(id) < options.min_p; });
  std::sort(ids.begin(), ids.end());
  return ids;
}
}  // namespace

void check(const SamplingOptions& o) {
  require(o.temperature >= 0 && std::isfinite(o.temperature), "temperature is {}, not a number from 0 on",
          o.temperature);
  require(o.top_k >= 0, "top-k is {}, not a number from 0 on", o.top_k);
  require(o.top_p > 0 && o.top_p <= 1, "top-p is {}, outside (0, 1]", o.top_p);
  require(o.min_p >= 0 && o.min_p <= 1, "min-p is {}, outside [0, 1]", o.min_p);
  require(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty),
          "the repetition penalty is {}, not a number above 0", o.repetition_penalty);
}

int32_t sample_token(std::vector<double> logits, const SamplingOptions& options, std::span<const int32_t> history,
                     int64_t index) {
  for (double x : logits) require(std::isfinite(x), "the model's logits are not finite; was it trained?");
  penalize(logits, history, options.repetition_penalty);
  if (options.temperature == 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const std::vector<double> weights = relative_weights(logits, options.temperature);
  const std::vector<int32_t> ids = kept_ids(weights, options);
  const double u = random_uniform(hash_key(options.seed, "sampling"), static_cast<uint64_t>(index));
  const double drawn = u * sum_of(weights, ids);
  double sum = 0;
  for (int32_t id : ids) {
    sum += weights[static_cast<size_t>(id)];
    if (drawn < sum) return id;
  }
  return ids.back();
}

}  // namespace strand
