#include "model/parameters.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>

#include "core/error.h"

namespace strand {

Tensor Parameter::slice(const Tensor& stored, const LogicalTensor& part) {
  if (!stored) return {};
  return {static_cast<std::byte*>(stored.data) + static_cast<size_t>(part.offset) * size_of(stored.dtype), stored.dtype,
          part.shape};
}

namespace {
/// A tensor with all of its elements in one dimension. Of none it is none.
Tensor elements_of(const Tensor& tensor, const ElementRange& range) {
  if (!tensor || range.elements == 0) return {};
  return tensor.view({tensor.elements()}).rows(range.first, range.end());
}
}  // namespace

// ---- what there is ------------------------------------------------------------------------------------------------

/// Declares stored parameters one after the other; their tensors are bound when they have memory.
struct Parameters::Builder {
  Parameters& owner;
  int64_t complete_after;  ///< of what is declared next
  int64_t first_expert, experts;
  std::vector<std::function<void(Parameters&)>> bindings;

  /// `field(ModelTensors)` is where the model finds it; set in weights and in gradients.
  template <typename Field>
  void add(const std::string& name, const Shape& shape, ParameterSpace space, std::vector<LogicalTensor> logical,
           const Field& field) {
    Parameter p;
    p.name = name;
    p.shape = shape;
    p.space = space;
    p.matrix = shape.rank() > 1;
    p.complete_after = complete_after;
    p.logical = std::move(logical);
    bindings.push_back([index = owner.parameters_.size(), field](Parameters& all) {
      field(all.weights_) = all.parameters_[index].weight;
      field(all.gradients_) = all.parameters_[index].gradient;
    });
    owner.parameters_.push_back(std::move(p));
  }

  template <typename Field>
  void matrix(const std::string& name, const Shape& shape, double init_std, const Field& field) {
    add(name, shape, ParameterSpace::dense, {{name, shape, 0, init_std}}, field);
  }

  template <typename Field>
  void vector(const std::string& name, int64_t n, const Field& field) {
    add(name, {n}, ParameterSpace::dense_acc, {{name, {n}, 0, 0.0}}, field);
  }

  /// Declares the two stored matrices of one dense SwiGLU block: gate and up in one, and down.
  template <typename In, typename Out>
  void swiglu(const std::string& prefix, int64_t width, int64_t d, double std_in, double std_out, const In& gate_up,
              const Out& down) {
    add(prefix + ".gate_up", {2 * width, d}, ParameterSpace::dense,
        {{prefix + ".gate_proj.weight", {width, d}, 0, std_in},
         {prefix + ".up_proj.weight", {width, d}, width * d, std_in}},
        gate_up);
    add(prefix + ".down", {d, width}, ParameterSpace::dense, {{prefix + ".down_proj.weight", {d, width}, 0, std_out}},
        down);
  }

  /// Declares the same matrices of all experts that this rank holds in a layer.
  template <typename In, typename Out>
  void expert_swiglu(const std::string& prefix, int64_t f, int64_t d, double std_in, double std_out, const In& gate_up,
                     const Out& down) {
    std::vector<LogicalTensor> in, out;
    for (int64_t i = 0; i < experts; ++i) {
      const std::string expert = fmt::format("{}.{}", prefix, first_expert + i);
      in.push_back({expert + ".gate_proj.weight", {f, d}, (2 * i) * f * d, std_in});
      in.push_back({expert + ".up_proj.weight", {f, d}, (2 * i + 1) * f * d, std_in});
      out.push_back({expert + ".down_proj.weight", {d, f}, i * d * f, std_out});
    }
    add(prefix + ".gate_up", {experts, 2 * f, d}, ParameterSpace::experts, std::move(in), gate_up);
    add(prefix + ".down", {experts, d, f}, ParameterSpace::experts, std::move(out), down);
  }
};

Parameters::Parameters(Arena& arena, const Config& config, NumberTypes types, Purpose purpose, const GridShape& grid)
    : types_(types), expert_parallel_(grid.expert_parallel) {
  const int64_t experts = config.moe.num_experts;
  require(experts % grid.expert_parallel == 0, "moe.num_experts {} does not divide by parallel.expert_parallel {}",
          experts, grid.expert_parallel);
  const int64_t held = experts / grid.expert_parallel;
  Builder builder{*this, -1, grid.expert_rank() * held, held, {}};
  weights_.layers.resize(static_cast<size_t>(config.model.num_layers));
  gradients_.layers.resize(weights_.layers.size());
  declare(builder, config);
  for (int64_t layer = config.model.dense_layers; config.moe.bias_rate > 0 && layer < config.model.num_layers;
       ++layer) {
    const std::string bias = fmt::format("layers.{}.moe.router.bias", layer);
    biases_.push_back({bias, layer, arena.allocate(bias, types.acc, {experts})});
  }
  allocate(arena, config.parallel.bucket_mib, purpose, grid);
  for (const auto& bind : builder.bindings) bind(*this);
  if (config.model.tied_embeddings) {
    weights_.head = weights_.embed;
    gradients_.head = gradients_.embed;
  }
}

void Parameters::declare(Builder& b, const Config& config) {
  const ModelConfig& c = config.model;
  const Shape vocabulary{c.vocab_size, c.hidden_size};
  b.matrix("embed_tokens.weight", vocabulary, c.init_std, [](ModelTensors& m) -> Tensor& { return m.embed; });
  for (int64_t layer = 0; layer < c.num_layers; ++layer) declare_layer(b, config, layer);
  b.complete_after = c.num_layers;
  b.vector("norm.weight", c.hidden_size, [](ModelTensors& m) -> Tensor& { return m.norm; });
  if (!c.tied_embeddings)
    b.matrix("lm_head.weight", vocabulary, c.init_std, [](ModelTensors& m) -> Tensor& { return m.head; });
}

namespace {
auto of_layer(int64_t n, Tensor LayerTensors::*field) {
  return [n, field](ModelTensors& m) -> Tensor& { return m.layers[static_cast<size_t>(n)].*field; };
}
}  // namespace

/// All of attention but its output.
void Parameters::declare_attention(Builder& b, const ModelConfig& c, int64_t n) {
  const int64_t d = c.hidden_size, q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  const std::string attention = fmt::format("layers.{}.attn", n);
  b.add(attention + ".qkv", {q + 2 * kv, d}, ParameterSpace::dense,
        {{attention + ".q_proj.weight", {q, d}, 0, c.init_std},
         {attention + ".k_proj.weight", {kv, d}, q * d, c.init_std},
         {attention + ".v_proj.weight", {kv, d}, (q + kv) * d, c.init_std}},
        of_layer(n, &LayerTensors::qkv));
  if (c.qk_norm == QkNorm::none) return;
  const bool full = c.qk_norm == QkNorm::full;
  b.vector(attention + ".q_norm.weight", full ? q : c.head_dim, of_layer(n, &LayerTensors::q_norm));
  b.vector(attention + ".k_norm.weight", full ? kv : c.head_dim, of_layer(n, &LayerTensors::k_norm));
}

/// The same with latents: what is read from x is one matrix, [queries or their latent | latent of keys and values | the
/// rotated key].
void Parameters::declare_latent_attention(Builder& b, const ModelConfig& c, int64_t n) {
  const int64_t d = c.hidden_size, heads = c.num_heads * c.head_dim;
  const int64_t q = c.q_latent > 0 ? c.q_latent : heads, kv = c.kv_latent + c.rope_head_dim;
  const std::string attention = fmt::format("layers.{}.attn", n);
  const std::string queries = attention + (c.q_latent > 0 ? ".q_a_proj.weight" : ".q_proj.weight");
  b.add(attention + ".qkv_a", {q + kv, d}, ParameterSpace::dense,
        {{queries, {q, d}, 0, c.init_std}, {attention + ".kv_a_proj.weight", {kv, d}, q * d, c.init_std}},
        of_layer(n, &LayerTensors::qkv));
  if (c.q_latent > 0) {
    b.vector(attention + ".q_a_norm.weight", c.q_latent, of_layer(n, &LayerTensors::q_norm));
    b.matrix(attention + ".q_b_proj.weight", {heads, c.q_latent}, c.init_std, of_layer(n, &LayerTensors::q_b));
  }
  b.vector(attention + ".kv_a_norm.weight", c.kv_latent, of_layer(n, &LayerTensors::k_norm));
  b.matrix(attention + ".kv_b_proj.weight", {c.num_heads * (c.nope_head_dim + c.value_head_dim), c.kv_latent},
           c.init_std, of_layer(n, &LayerTensors::kv_b));
}

void Parameters::declare_layer(Builder& b, const Config& config, int64_t n) {
  const ModelConfig& c = config.model;
  const MoeConfig& moe = config.moe;
  const int64_t d = c.hidden_size;
  const double in = c.init_std, out = c.init_std / std::sqrt(2.0 * static_cast<double>(c.num_layers));
  const std::string layer = fmt::format("layers.{}", n);
  const auto to = [n](Tensor LayerTensors::*field) { return of_layer(n, field); };
  b.complete_after = n;
  b.vector(layer + ".attn_norm.weight", d, to(&LayerTensors::attn_norm));
  if (c.latent())
    declare_latent_attention(b, c, n);
  else
    declare_attention(b, c, n);
  b.matrix(layer + ".attn.o_proj.weight", {d, c.num_heads * c.value_dim()}, out, to(&LayerTensors::o_proj));
  b.vector(layer + ".ffn_norm.weight", d, to(&LayerTensors::ffn_norm));
  const auto gate_up = to(&LayerTensors::feed_forward_gate_up), down = to(&LayerTensors::feed_forward_down);
  if (n < c.dense_layers) return b.swiglu(layer + ".mlp", c.dense_ffn, d, in, out, gate_up, down);
  const std::string router = layer + ".moe.router.weight";
  const Shape router_shape{moe.num_experts, d};
  b.add(router, router_shape, ParameterSpace::dense_acc, {{router, router_shape, 0, in}}, to(&LayerTensors::router));
  b.expert_swiglu(layer + ".moe.experts", moe.expert_ffn, d, in, out, to(&LayerTensors::gate_up),
                  to(&LayerTensors::down));
  if (moe.shared_experts > 0)
    b.swiglu(layer + ".moe.shared", moe.shared_experts * moe.expert_ffn, d, in, out, gate_up, down);
}

// ---- where it lies ------------------------------------------------------------------------------------------------

void Parameters::allocate(Arena& arena, int64_t bucket_mib, Purpose purpose, const GridShape& grid) {
  const int64_t bucket_elements = (bucket_mib << 20) / static_cast<int64_t>(size_of(types_.acc));
  for (const ParameterSpace space : {ParameterSpace::dense, ParameterSpace::dense_acc, ParameterSpace::experts}) {
    std::vector<size_t> order;  // of backward
    for (size_t i = 0; i < parameters_.size(); ++i)
      if (parameters_[i].space == space) order.push_back(i);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const int64_t first = parameters_[a].complete_after, second = parameters_[b].complete_after;
      return first != second ? first > second : a < b;
    });
    const bool experts = space == ParameterSpace::experts;
    const Share share = experts ? Share{grid.replicas(), grid.replica_rank()} : Share{grid.ranks, grid.rank};
    if (!order.empty()) allocate_space(arena, space, order, bucket_elements, purpose, share);
  }
  std::sort(buckets_.begin(), buckets_.end(), [](const Bucket& a, const Bucket& b) {
    return a.complete_after != b.complete_after ? a.complete_after > b.complete_after : a.weights.data < b.weights.data;
  });
}

void Parameters::allocate_space(Arena& arena, ParameterSpace space, const std::vector<size_t>& order,
                                int64_t bucket_elements, Purpose purpose, const Share& share) {
  std::vector<int64_t> sizes;
  for (const size_t i : order) sizes.push_back(parameters_[i].shape.elements());
  const ParameterLayout layout(sizes, bucket_elements, share.parts);
  const DType read = space == ParameterSpace::dense_acc ? types_.acc : types_.act;
  const auto take = [&](const char* what, DType type, int64_t elements) {
    constexpr std::array<const char*, parameter_spaces> names{"dense", "norms and routers", "experts"};
    return arena.allocate(fmt::format("{} ({})", what, names[static_cast<size_t>(space)]), type, {elements});
  };
  const bool training = purpose == Purpose::training;
  const int64_t owned = layout.elements / share.parts;
  const Tensor weights = take("weights", read, layout.elements);
  const Tensor gradients = training ? take("gradients", types_.acc, layout.elements) : Tensor{};
  const Tensor master = training && read != types_.acc ? take("master copies", types_.acc, owned) : Tensor{};
  const Tensor m = training ? take("moments m", types_.acc, owned) : Tensor{};
  const Tensor v = training ? take("moments v", types_.acc, owned) : Tensor{};
  for (const ParameterLayout::Bucket& b : layout.buckets) {
    const ElementRange whole{b.first, b.elements}, mine{b.first / share.parts, b.elements / share.parts};
    Bucket bucket{.space = space, .parts = share.parts, .part = share.part};
    bucket.weights = elements_of(weights, whole);
    bucket.gradients = elements_of(gradients, whole);
    bucket.master = master ? elements_of(master, mine) : bucket.part_of(bucket.weights);
    bucket.m = elements_of(m, mine);
    bucket.v = elements_of(v, mine);
    for (const size_t member : b.members) {
      bucket.parameters.push_back(order[member]);
      bucket.first.push_back(layout.first[member] - b.first);
    }
    place(bucket);
    buckets_.push_back(std::move(bucket));
  }
}

Tensor Bucket::part_of(const Tensor& whole) const {
  const int64_t elements = whole.elements() / parts;
  return elements_of(whole, {part * elements, elements});
}

/// Points the tensors of a bucket's parameters at the bucket's memory.
void Parameters::place(Bucket& bucket) {
  const int64_t part = bucket.weights.elements() / bucket.parts;
  const ElementRange mine{bucket.part * part, part};
  for (size_t i = 0; i < bucket.parameters.size(); ++i) {
    Parameter& p = parameters_[bucket.parameters[i]];
    const ElementRange whole{bucket.first[i], p.shape.elements()}, owned = intersection(whole, mine);
    p.weight = elements_of(bucket.weights, whole).view(p.shape);
    if (bucket.gradients) p.gradient = elements_of(bucket.gradients, whole).view(p.shape);
    bucket.complete_after = p.complete_after;
    if (owned.elements == 0) continue;
    const ElementRange in_part{owned.first - mine.first, owned.elements};
    p.owned = {.range = {owned.first - whole.first, owned.elements},
               .weight = elements_of(bucket.weights, owned),
               .master = elements_of(bucket.master, in_part),
               .gradient = elements_of(bucket.gradients, owned),
               .m = elements_of(bucket.m, in_part),
               .v = elements_of(bucket.v, in_part)};
  }
}

Tensor Parameters::router_bias(int64_t layer) const {
  for (const RouterBias& b : biases_)
    if (b.layer == layer) return b.bias;
  return {};
}

// ---- values -------------------------------------------------------------------------------------------------------

namespace {
/// The values of one logical tensor on the host, in acc.
template <typename T>
void initial_values(std::vector<T>& values, const LogicalTensor& part, uint64_t seed) {
  const int64_t n = part.shape.elements();
  values.assign(static_cast<size_t>(n), T(1));
  if (part.init_std == 0.0) return;
  const uint64_t key = hash_key(seed, part.name);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i)
    // Values are rounded to float in every precision, so that all precisions start from the same model.
    values[static_cast<size_t>(i)] =
        static_cast<T>(static_cast<float>(part.init_std * random_normal(key, static_cast<uint64_t>(i))));
}

/// Copies `values`, of type acc and at any address, to a device tensor of that type or of bf16.
void upload_rounded(Ops& ops, const Tensor& tensor, const void* values, DType acc) {
  if (tensor.dtype == acc) return ops.device().upload(values, tensor);
  require(tensor.dtype == DType::bf16 && acc == DType::f32, "no rounding from {} to {}", to_string(acc),
          to_string(tensor.dtype));
  const auto* from = static_cast<const std::byte*>(values);
  std::vector<bf16> rounded(static_cast<size_t>(tensor.elements()));
  for (size_t i = 0; i < rounded.size(); ++i) {
    float value;
    std::memcpy(&value, from + i * sizeof value, sizeof value);
    rounded[i] = bf16(value);
  }
  ops.device().upload(rounded.data(), tensor);
}
}  // namespace

void Parameters::initialize(Ops& ops, uint64_t seed) {
  std::vector<float> f32;
  std::vector<double> f64;
  const bool wide = types_.acc == DType::f64;
  for (const Parameter& p : parameters_) {
    for (const LogicalTensor& part : p.logical) {
      if (wide) {
        initial_values(f64, part, seed);
        store(ops, p, part, f64.data());
      } else {
        initial_values(f32, part, seed);
        store(ops, p, part, f32.data());
      }
    }
  }
  zero_training_state(ops);
}

void Parameters::store(Ops& ops, const Parameter& p, const LogicalTensor& part, const void* values) const {
  upload_rounded(ops, Parameter::slice(p.weight, part), values, types_.acc);
  if (p.owned.has_master_copy()) store_owned(ops, p, part, &OwnedPart::master, values);
}

void Parameters::store(Ops& ops, const Parameter& p, const LogicalTensor& part,
                       const std::vector<double>& values) const {
  require(static_cast<int64_t>(values.size()) == part.shape.elements(), "{} values for {} {}", values.size(), part.name,
          part.shape.to_string());
  if (types_.acc == DType::f64) return store(ops, p, part, values.data());
  const std::vector<float> rounded(values.begin(), values.end());
  store(ops, p, part, rounded.data());
}

void Parameters::store_owned(Ops& ops, const Parameter& p, const LogicalTensor& part, Tensor OwnedPart::*field,
                             const void* values) const {
  const ElementRange shared = intersection(part.range(), p.owned.range);
  if (shared.elements == 0) return;
  const Tensor to = elements_of(p.owned.*field, {shared.first - p.owned.range.first, shared.elements});
  ops.device().upload(
      static_cast<const std::byte*>(values) + static_cast<size_t>(shared.first - part.offset) * size_of(types_.acc),
      to);
}

void Parameters::zero_training_state(Ops& ops, Keep keep) {
  if (keep == Keep::nothing)
    for (const RouterBias& b : biases_) ops(Zero{b.bias});
  for (const Bucket& b : buckets_) {
    if (!b.gradients) continue;
    ops(Zero{b.gradients});
    ops(Zero{b.m});
    ops(Zero{b.v});
  }
}

void Parameters::zero_gradients(Ops& ops) {
  for (const Bucket& b : buckets_) ops(Zero{b.gradients});
}

int64_t Parameters::elements() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_)
    n += p.shape.elements() * (p.space == ParameterSpace::experts ? expert_parallel_ : 1);
  return n;
}

int64_t Parameters::tensors() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_)
    n += static_cast<int64_t>(p.logical.size()) * (p.space == ParameterSpace::experts ? expert_parallel_ : 1);
  return n;
}

}  // namespace strand
