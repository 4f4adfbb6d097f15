#include "infer/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/random.h"
#include "kernels/staging.h"

namespace strand {

namespace {
/// Ids by descending logit, ties by id, cut to the k most likely.
std::vector<int32_t> candidates(const std::vector<double>& logits, int64_t top_k) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto better = [&](int32_t a, int32_t b) {
    const double x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::sort(ids.begin(), ids.end(), better);
  if (top_k > 0 && top_k < static_cast<int64_t>(ids.size())) ids.resize(static_cast<size_t>(top_k));
  return ids;
}
}  // namespace

int32_t sample_token(const std::vector<double>& logits, const SamplingOptions& options, int64_t index) {
  for (double x : logits) require(std::isfinite(x), "the model's logits are not finite; was it trained?");
  if (options.temperature == 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const std::vector<int32_t> ids = candidates(logits, options.top_k);
  const double largest = logits[static_cast<size_t>(ids[0])];
  std::vector<double> weight;
  double total = 0;
  for (int32_t id : ids) {
    weight.push_back(std::exp((logits[static_cast<size_t>(id)] - largest) / options.temperature));
    total += weight.back();
  }
  size_t kept = 0;
  double mass = 0;
  while (kept < ids.size() && (kept == 0 || mass < options.top_p * total)) mass += weight[kept++];
  const double u = random_uniform(hash_key(options.seed, "sampling"), static_cast<uint64_t>(index)) * mass;
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    sum += weight[i];
    if (u < sum) return ids[i];
  }
  return ids[kept - 1];
}

std::vector<int32_t> generate(Session& session, const std::vector<int32_t>& prompt, int64_t context,
                              const SamplingOptions& options, const std::function<void(int32_t)>& on_token) {
  require(!prompt.empty(), "generation needs at least one token to start from");
  Ops& ops = session.ops();
  const Objective objective{.losses = session.config().losses};
  const Tensor logits = session.prediction_buffer();
  std::vector<int32_t> text = prompt, added;
  while (static_cast<int64_t>(added.size()) < options.max_tokens) {
    const int64_t seen = std::min<int64_t>(context, static_cast<int64_t>(text.size()));
    MicroStep micro{.batch = session.stage(1, seen, text.data() + text.size() - static_cast<size_t>(seen), nullptr)};
    micro.micro_tokens = seen;
    micro.step = {.tokens = seen};
    session.transformer().begin_step();
    session.transformer().predict(micro, objective, logits);
    const int32_t id = sample_token(download_values(ops, logits), options, static_cast<int64_t>(added.size()));
    if (id == options.stop_id) break;
    text.push_back(id);
    added.push_back(id);
    if (on_token) on_token(id);
  }
  return added;
}

}  // namespace strand
