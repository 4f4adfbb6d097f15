#include "model/parameters.h"

#include <fmt/core.h>

#include <cmath>
#include <cstring>

namespace strand {

Tensor Parameter::slice(const Tensor& stored, const LogicalTensor& part) {
  if (!stored) return {};
  return {static_cast<std::byte*>(stored.data) + static_cast<size_t>(part.offset) * size_of(stored.dtype), stored.dtype,
          part.shape};
}

/// Declares stored parameters one after the other and hands back their index.
struct Parameters::Builder {
  Parameters& owner;
  Arena& arena;
  NumberTypes types;
  Purpose purpose;

  size_t add(const std::string& name, const Shape& shape, std::vector<LogicalTensor> logical) {
    return add(name, shape, std::move(logical), shape.rank() > 1, shape.rank() == 1);
  }

  size_t add(const std::string& name, const Shape& shape, std::vector<LogicalTensor> logical, bool matrix,
             bool read_in_acc) {
    Parameter p;
    p.name = name;
    p.shape = shape;
    p.matrix = matrix;
    p.read_in_acc = read_in_acc;
    p.logical = std::move(logical);
    p.master = arena.allocate(name + " (master)", types.acc, shape);
    if (!read_in_acc) p.act = types.one_type() ? p.master : arena.allocate(name, types.act, shape);
    if (purpose == Purpose::training) {
      p.gradient = arena.allocate(name + " (gradient)", types.acc, shape);
      p.m = arena.allocate(name + " (m)", types.acc, shape);
      p.v = arena.allocate(name + " (v)", types.acc, shape);
    }
    owner.parameters_.push_back(std::move(p));
    return owner.parameters_.size() - 1;
  }

  size_t vector(const std::string& name, int64_t n) { return add(name, {n}, {{name, {n}, 0, 0.0}}); }

  /// A SwiGLU's two stored matrices, fused [gate | up] and down, for one dense block.
  std::pair<size_t, size_t> swiglu(const std::string& prefix, int64_t width, int64_t d, double std_in, double std_out) {
    const size_t gate_up = add(prefix + ".gate_up", {2 * width, d},
                               {{prefix + ".gate_proj.weight", {width, d}, 0, std_in},
                                {prefix + ".up_proj.weight", {width, d}, width * d, std_in}});
    const size_t down = add(prefix + ".down", {d, width}, {{prefix + ".down_proj.weight", {d, width}, 0, std_out}});
    return {gate_up, down};
  }

  /// The same for all experts of a layer.
  std::pair<size_t, size_t> experts(const std::string& prefix, int64_t e, int64_t f, int64_t d, double std_in,
                                    double std_out) {
    std::vector<LogicalTensor> in, out;
    for (int64_t i = 0; i < e; ++i) {
      const std::string expert = fmt::format("{}.{}", prefix, i);
      in.push_back({expert + ".gate_proj.weight", {f, d}, (2 * i) * f * d, std_in});
      in.push_back({expert + ".up_proj.weight", {f, d}, (2 * i + 1) * f * d, std_in});
      out.push_back({expert + ".down_proj.weight", {d, f}, i * d * f, std_out});
    }
    return {add(prefix + ".gate_up", {e, 2 * f, d}, std::move(in)), add(prefix + ".down", {e, d, f}, std::move(out))};
  }

  /// Sets the same field in weights and gradients.
  template <typename Field>
  void bind(size_t parameter, Field field) {
    field(owner.weights_) = owner.parameters_[parameter].weight();
    field(owner.gradients_) = owner.parameters_[parameter].gradient;
  }
};

Parameters::Parameters(Arena& arena, const Config& config, NumberTypes types, Purpose purpose) {
  const ModelConfig& c = config.model;
  const MoeConfig& moe = config.moe;
  const int64_t d = c.hidden_size, q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim;
  const double in = c.init_std, out = c.init_std / std::sqrt(2.0 * static_cast<double>(c.num_layers));
  Builder b{*this, arena, types, purpose};
  weights_.layers.resize(static_cast<size_t>(c.num_layers));
  gradients_.layers.resize(static_cast<size_t>(c.num_layers));

  const std::string embed = "embed_tokens.weight";
  const size_t embed_index = b.add(embed, {c.vocab_size, d}, {{embed, {c.vocab_size, d}, 0, in}});
  b.bind(embed_index, [](ModelTensors& m) -> Tensor& { return m.embed; });

  for (int64_t n = 0; n < c.num_layers; ++n) {
    const std::string layer = fmt::format("layers.{}", n);
    const auto bind = [&](size_t parameter, Tensor LayerTensors::* field) {
      b.bind(parameter, [&](ModelTensors& m) -> Tensor& { return m.layers[static_cast<size_t>(n)].*field; });
    };
    bind(b.vector(layer + ".attn_norm.weight", d), &LayerTensors::attn_norm);
    bind(b.add(layer + ".attn.qkv", {q + 2 * kv, d},
               {{layer + ".attn.q_proj.weight", {q, d}, 0, in},
                {layer + ".attn.k_proj.weight", {kv, d}, q * d, in},
                {layer + ".attn.v_proj.weight", {kv, d}, (q + kv) * d, in}}),
         &LayerTensors::qkv);
    if (c.qk_norm != QkNorm::none) {
      const bool full = c.qk_norm == QkNorm::full;
      bind(b.vector(layer + ".attn.q_norm.weight", full ? q : c.head_dim), &LayerTensors::q_norm);
      bind(b.vector(layer + ".attn.k_norm.weight", full ? kv : c.head_dim), &LayerTensors::k_norm);
    }
    const std::string o = layer + ".attn.o_proj.weight";
    bind(b.add(o, {d, q}, {{o, {d, q}, 0, out}}), &LayerTensors::o_proj);
    bind(b.vector(layer + ".ffn_norm.weight", d), &LayerTensors::ffn_norm);

    if (n < c.dense_layers) {
      const auto [gate_up, down] = b.swiglu(layer + ".mlp", c.dense_ffn, d, in, out);
      bind(gate_up, &LayerTensors::dense_gate_up);
      bind(down, &LayerTensors::dense_down);
      continue;
    }
    const std::string router = layer + ".moe.router.weight";
    bind(b.add(router, {moe.num_experts, d}, {{router, {moe.num_experts, d}, 0, in}}, true, true),
         &LayerTensors::router);
    const auto [gate_up, down] = b.experts(layer + ".moe.experts", moe.num_experts, moe.expert_ffn, d, in, out);
    bind(gate_up, &LayerTensors::gate_up);
    bind(down, &LayerTensors::down);
    if (moe.shared_experts > 0) {
      const auto [shared_in, shared_out] =
          b.swiglu(layer + ".moe.shared", moe.shared_experts * moe.expert_ffn, d, in, out);
      bind(shared_in, &LayerTensors::dense_gate_up);
      bind(shared_out, &LayerTensors::dense_down);
    }
    if (moe.bias_rate > 0) {
      const std::string bias = layer + ".moe.router.bias";
      biases_.push_back({bias, n, arena.allocate(bias, types.acc, {moe.num_experts})});
    }
  }
  b.bind(b.vector("norm.weight", d), [](ModelTensors& m) -> Tensor& { return m.norm; });
  if (c.tied_embeddings) {
    weights_.head = weights_.embed;
    gradients_.head = gradients_.embed;
  } else {
    const std::string head = "lm_head.weight";
    b.bind(b.add(head, {c.vocab_size, d}, {{head, {c.vocab_size, d}, 0, in}}),
           [](ModelTensors& m) -> Tensor& { return m.head; });
  }
}

Tensor Parameters::router_bias(int64_t layer) const {
  for (const RouterBias& b : biases_)
    if (b.layer == layer) return b.bias;
  return {};
}

namespace {
/// Host values of one logical tensor, in acc.
template <typename T>
void initial_values(std::vector<T>& values, const LogicalTensor& part, uint64_t seed) {
  const int64_t n = part.shape.elements();
  values.assign(static_cast<size_t>(n), T(1));
  if (part.init_std == 0.0) return;
  const uint64_t key = hash_key(seed, part.name);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < n; ++i)
    // Rounded to float in every precision, so that all of them start from the same model.
    values[static_cast<size_t>(i)] =
        static_cast<T>(static_cast<float>(part.init_std * random_normal(key, static_cast<uint64_t>(i))));
}
}  // namespace

void Parameters::initialize(Ops& ops, uint64_t seed) {
  std::vector<float> f32;
  std::vector<double> f64;
  for (const Parameter& p : parameters_) {
    for (const LogicalTensor& part : p.logical) {
      const Tensor slice = Parameter::slice(p.master, part);
      if (slice.dtype == DType::f64) {
        initial_values(f64, part, seed);
        ops.upload(f64.data(), slice);
      } else {
        initial_values(f32, part, seed);
        ops.upload(f32.data(), slice);
      }
    }
  }
  refresh_act(ops);
  zero_training_state(ops);
}

void Parameters::zero_training_state(Ops& ops, Keep keep) {
  if (keep == Keep::nothing)
    for (const RouterBias& b : biases_) ops(Zero{b.bias});
  for (const Parameter& p : parameters_) {
    if (!p.gradient) continue;
    ops(Zero{p.gradient});
    ops(Zero{p.m});
    ops(Zero{p.v});
  }
}

void Parameters::zero_gradients(Ops& ops) {
  for (const Parameter& p : parameters_) ops(Zero{p.gradient});
}

void Parameters::refresh_act(Ops& ops) {
  for (const Parameter& p : parameters_)
    if (p.act && p.act.data != p.master.data) ops(Cast{p.master, p.act});
}

int64_t Parameters::elements() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.shape.elements();
  return n;
}

}  // namespace strand
