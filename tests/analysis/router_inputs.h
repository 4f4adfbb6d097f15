#pragma once
// What the tests of this folder compute from the inputs of the routers, beside the model: a plain product and a sort.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/staging.h"
#include "model/forward_observer.h"
#include "tests/model/harness.h"

namespace strand::test {

/// An observer that keeps the inputs of the routers and passes everything on: logits in pieces of a few rows, as a head
/// gives them that works in chunks.
class Recorder final : public ForwardObserver {
 public:
  Recorder(Ops& ops, ForwardObserver& inner) : ops_(ops), inner_(inner) {}
  void chosen(int64_t layer, const Tensor& x, const Routing& routing) override {
    if (inputs.size() <= static_cast<size_t>(layer)) inputs.resize(static_cast<size_t>(layer + 1));
    const Values values = download_values(ops_, x);
    inputs[static_cast<size_t>(layer)].insert(inputs[static_cast<size_t>(layer)].end(), values.begin(), values.end());
    inner_.chosen(layer, x, routing);
  }
  void predicted(int64_t first, const Tensor& logits) override {
    constexpr int64_t piece = 4;
    for (int64_t begin = 0; begin < logits.dim(0); begin += piece)
      inner_.predicted(first + begin, logits.rows(begin, std::min(begin + piece, logits.dim(0))));
  }

  std::vector<Values> inputs;  ///< [MoE layers][T · D]

 private:
  Ops& ops_;
  ForwardObserver& inner_;
};

inline Values row(const Values& values, int64_t i, int64_t width) {
  return {values.begin() + i * width, values.begin() + (i + 1) * width};
}

/// y = x Wᵀ for W [out, in].
inline Values times(const Values& weight, const Values& x) {
  Values y;
  for (size_t first = 0; first < weight.size(); first += x.size())
    y.push_back(std::inner_product(x.begin(), x.end(), weight.begin() + static_cast<std::ptrdiff_t>(first), 0.0));
  return y;
}

/// The experts with the largest s + b, best first, from the router's input.
inline std::vector<uint16_t> order_of_choice(TestModel& model, int64_t layer, const Values& x) {
  const Config& config = model.session.config();
  Values score = times(model.weight("layers." + std::to_string(layer) + ".moe.router.weight"), x);
  if (config.moe.score == RouterScore::sigmoid) {
    for (double& q : score) q = 1 / (1 + std::exp(-q));
    const Values bias = download_values(model.session.ops(), model.session.parameters().router_bias(layer));
    for (size_t e = 0; e < score.size(); ++e) score[e] += bias[e];
  }
  std::vector<uint16_t> order(score.size());
  std::iota(order.begin(), order.end(), uint16_t{0});
  std::stable_sort(order.begin(), order.end(), [&](uint16_t a, uint16_t b) { return score[a] > score[b]; });
  return order;
}

inline Config with_dense_layer(Config config) {
  config.model.num_layers = 3;
  config.model.dense_layers = 1;
  config.model.dense_ffn = 9;
  return config;
}

/// Models with a dense layer below: 0 routes by softmax; 1 by sigmoid with a bias, and divides weights by their sum.
inline Config config_number(int number) {
  Config config = with_dense_layer(tiny_config(Precision::fp64));
  if (number == 1) {
    config.moe.score = RouterScore::sigmoid;
    config.moe.bias_rate = 0.001;
    config.moe.renormalize = true;
  }
  return config;
}

}  // namespace strand::test
