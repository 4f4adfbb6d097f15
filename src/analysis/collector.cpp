#include "analysis/collector.h"

#include <algorithm>
#include <cstddef>

#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

namespace {
constexpr int64_t max_traced_experts = 65536;

/// The place of the largest number of each row. Among equals it is the lower one.
template <typename T>
void largest_of_rows(const T* rows, int64_t count, int64_t width, int32_t* places) {
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    const T* row = rows + i * width;
    T largest = row[0];
#pragma omp simd reduction(max : largest)
    for (int64_t j = 1; j < width; ++j) largest = row[j] > largest ? row[j] : largest;
    const int64_t place = std::find(row, row + width, largest) - row;
    places[i] = place < width ? static_cast<int32_t>(place) : 0;  // logits that are no numbers: the loss says so
  }
}

std::vector<int32_t> download_ids(Device& device, const Tensor& ids) {
  std::vector<int32_t> host(static_cast<size_t>(ids.elements()));
  device.download(ids, host.data());
  return host;
}

std::span<const double> row_of(const std::vector<double>& values, int64_t row, int64_t width) {
  return std::span(values).subspan(static_cast<size_t>(row * width), static_cast<size_t>(width));
}
}  // namespace

Selections Collected::guesses(int64_t layer, int64_t experts_of_layer, int64_t top_k) const {
  const auto pairs = static_cast<int64_t>(input_cosines.size());
  const auto tokens = static_cast<int64_t>(predicted.size());
  return {guessed.data() + layer * top_k, pairs * top_k, tokens, experts_of_layer, top_k};
}

void Collected::scale_inputs_to_unit_length() {
  for (CollectedLayer& layer : layers) scale_to_unit_length(layer.inputs);
  input_length = InputLength::unit;
}

RoutingCollector::RoutingCollector(Session& session, int64_t tokens, int64_t clustered)
    : session_(session),
      width_(session.config().model.hidden_size),
      experts_(session.config().moe.num_experts),
      top_k_(session.config().moe.top_k),
      layers_(session.transformer().moe_layers()),
      total_(tokens),
      clustered_(clustered),
      input_cosines_(static_cast<size_t>(std::max<int64_t>(layers_ - 1, 0))) {
  require(layers_ > 0, "the model has no layer with experts, so there is no routing to analyse");
  require(experts_ <= max_traced_experts, "the model has {} experts in a layer, and {} at most can be traced", experts_,
          max_traced_experts);
  require(clustered >= 0 && clustered <= tokens, "{} tokens to cluster, of {}", clustered, tokens);
  for (int64_t l = 0; l < layers_; ++l) {
    Layer& layer = layer_.emplace_back(experts_, top_k_);
    const auto place = static_cast<size_t>(model_layer(l));
    layer.router = download_values(session.ops(), session.parameters().weights().layers[place].router);
    layer.router_norms = row_norms({layer.router, width_});
    layer.inputs.width = width_;
  }
}

int64_t RoutingCollector::model_layer(int64_t layer) const {
  return layer + session_.config().model.dense_layers;
}

std::span<const uint16_t> RoutingCollector::chosen_by(int64_t layer, int64_t row) const {
  const int64_t first = ((seen_ + row) * layers_ + layer) * top_k_;
  return std::span(collected_.experts).subspan(static_cast<size_t>(first), static_cast<size_t>(top_k_));
}

void RoutingCollector::chosen(int64_t layer, const Tensor& x, const Routing& routing) {
  if (layer == 0) {
    rows_ = x.dim(0);
    require(seen_ + rows_ <= total_, "{} tokens were announced, and more came", total_);
    collected_.experts.resize(static_cast<size_t>((seen_ + rows_) * layers_ * top_k_));
    collected_.guessed.resize(static_cast<size_t>((seen_ + rows_) * (layers_ - 1) * top_k_));
    collected_.predicted.resize(static_cast<size_t>(seen_ + rows_));
  }
  std::vector<double> inputs = download_values(session_.ops(), x);
  std::vector<double> norms = row_norms({inputs, width_});
  take_choice(layer, norms, routing);
  if (layer > 0)
    input_cosines_[static_cast<size_t>(layer - 1)] +=
        summed_input_cosine({below_, width_}, below_norms_, {inputs, width_}, norms);
  if (layer + 1 < layers_) guess_above(layer, x);
  if (clustered_ > 0) keep_inputs(layer_[static_cast<size_t>(layer)], inputs);
  below_ = std::move(inputs);
  below_norms_ = std::move(norms);
}

void RoutingCollector::take_choice(int64_t layer, const std::vector<double>& norms, const Routing& routing) {
  Layer& sums = layer_[static_cast<size_t>(layer)];
  const std::vector<int32_t> selected = download_ids(session_.device(), routing.selected);
  const std::vector<double> logits = download_values(session_.ops(), routing.logits);
  const std::vector<double> probs = download_values(session_.ops(), routing.probs);
  for (int64_t row = 0; row < rows_; ++row) {
    const int64_t to = ((seen_ + row) * layers_ + layer) * top_k_;
    for (int64_t k = 0; k < top_k_; ++k)
      collected_.experts[static_cast<size_t>(to + k)] =
          static_cast<uint16_t>(selected[static_cast<size_t>(row * top_k_ + k)]);
    const auto q = row_of(logits, row, experts_);
    sums.sharpness.add(row_of(probs, row, experts_), q);
    sums.choice += choice_cosine(q, norms[static_cast<size_t>(row)], sums.router_norms, chosen_by(layer, row));
  }
}

/// What the router of the next layer would choose if its input were this one's.
void RoutingCollector::guess_above(int64_t layer, const Tensor& x) {
  Ops& ops = session_.ops();
  Device& device = session_.device();
  const DType acc = session_.transformer().types().acc;
  const auto make = [&](DeviceMemory& memory, DType type, int64_t columns) {
    const size_t bytes = static_cast<size_t>(rows_ * columns) * size_of(type);
    if (memory.bytes() < bytes) memory = DeviceMemory(device, MemoryKind::device, bytes);
    return memory.tensor(type, {rows_, columns});
  };
  const Tensor logits = make(guess_.logits, acc, experts_), probs = make(guess_.probs, acc, experts_);
  const Tensor selected = make(guess_.selected, DType::i32, top_k_), gates = make(guess_.gates, acc, top_k_);
  const int64_t above = model_layer(layer + 1);
  const Tensor router = session_.parameters().weights().layers[static_cast<size_t>(above)].router;
  ops(RouterLinear{.x = x, .weight = router, .logits = logits});
  ops(Route{.gating = gating(session_.config().moe),
            .logits = logits,
            .bias = session_.parameters().router_bias(above),
            .probs = probs,
            .selected = selected,
            .gates = gates});
  const std::vector<int32_t> ids = download_ids(device, selected);
  for (int64_t row = 0; row < rows_; ++row)
    for (int64_t k = 0; k < top_k_; ++k)
      collected_.guessed[static_cast<size_t>(((seen_ + row) * (layers_ - 1) + layer) * top_k_ + k)] =
          static_cast<uint16_t>(ids[static_cast<size_t>(row * top_k_ + k)]);
}

void RoutingCollector::keep_inputs(Layer& layer, const std::vector<double>& x) {
  for (int64_t row = 0; row < rows_; ++row) {
    const int64_t t = seen_ + row;
    if ((t + 1) * clustered_ / total_ == t * clustered_ / total_) continue;
    if (&layer == layer_.data()) collected_.clustered.push_back(t);
    const auto values = row_of(x, row, width_);
    for (const double value : values) layer.inputs.values.push_back(static_cast<float>(value));
  }
}

void RoutingCollector::predicted(int64_t first, const Tensor& logits) {
  Device& device = session_.device();
  std::vector<std::byte> copy;
  const void* values = logits.data;
  if (device.shares_host_memory()) {
    device.synchronize();  // then they can be read where they are
  } else {
    copy.resize(logits.bytes());
    device.download(logits, copy.data());
    values = copy.data();
  }
  int32_t* to = collected_.predicted.data() + seen_ + first;
  if (logits.dtype == DType::f64)
    largest_of_rows(static_cast<const double*>(values), logits.dim(0), logits.dim(1), to);
  else
    largest_of_rows(static_cast<const float*>(values), logits.dim(0), logits.dim(1), to);
}

void RoutingCollector::end_micro_step() {
  for (int64_t l = 0; l < layers_ && top_k_ > 1; ++l) {
    const PairGrams& grams = session_.transformer().pair_grams(l);
    const std::vector<double> z = download_values(session_.ops(), grams.z);
    const std::vector<double> y = download_values(session_.ops(), grams.y);
    Layer& sums = layer_[static_cast<size_t>(l)];
    for (int64_t row = 0; row < rows_; ++row) {
      sums.z.add(chosen_by(l, row), row_of(z, row, top_k_ * top_k_));
      sums.y.add(chosen_by(l, row), row_of(y, row, top_k_ * top_k_));
    }
  }
  seen_ += rows_;
}

Collected RoutingCollector::take() {
  require(seen_ == total_ && total_ > 0, "{} tokens were announced, and {} came", total_, seen_);
  const auto tokens = static_cast<double>(total_);
  for (int64_t l = 0; l < layers_; ++l) {
    Layer& layer = layer_[static_cast<size_t>(l)];
    const LayerTensors& tensors = session_.parameters().weights().layers[static_cast<size_t>(model_layer(l))];
    CollectedLayer out{.sharpness = layer.sharpness.mean(),
                       .router = router_cosine({layer.router, width_}),
                       .weights = weight_cosines(session_.ops(), tensors.gate_up, tensors.down),
                       .choice = {layer.choice.chosen / tokens, layer.choice.any / tokens},
                       .inputs = std::move(layer.inputs)};
    if (top_k_ > 1) {
      out.z = layer.z.mean();
      out.y = layer.y.mean();
    }
    collected_.layers.push_back(std::move(out));
  }
  for (const InputCosine& sum : input_cosines_)
    collected_.input_cosines.push_back({sum.same_token / tokens, sum.other_token / tokens});
  return std::move(collected_);
}

}  // namespace strand
