#pragma once
// Tiny models of every class, as checkpoints with real initial weights, made by the model code that export/ does not
// know: its names and shapes are the expectation.
#include <map>
#include <nlohmann/json.hpp>

#include "../checkpoint/fixtures.h"
#include "checkpoint/checkpoint.h"
#include "config/schema.h"
#include "core/random.h"
#include "model/backend.h"
#include "model/session.h"
#include "tests/catch.h"
#include "train/model_state.h"

namespace strand::test {

/// No test here is about what survives a loss of power.
inline UnsyncedLayer unsynced_layer;
inline const InterposedFileLayer unsynced(unsynced_layer);

/// A configuration that is legal and small, without two sizes that are equal or could be taken for each other, and
/// without a default of any class: V 11, D 20, L 3, H 4, G 2, A 6 (so Q 24 and K 12), E 5, K 3, F 7.
inline Config small_config() {
  Config c;
  c.run.device = DeviceKind::reference;
  c.run.precision = Precision::fp64;
  c.model.vocab_size = 11;
  c.model.hidden_size = 20;
  c.model.num_layers = 3;
  c.model.num_heads = 4;
  c.model.num_kv_heads = 2;
  c.model.head_dim = 6;
  c.model.tied_embeddings = false;
  c.model.norm_eps = 3e-6;
  c.model.rope_theta = 7000;
  c.model.init_std = 0.03;
  c.moe.num_experts = 5;
  c.moe.top_k = 3;
  c.moe.expert_ffn = 7;
  c.data.sequence_length = 16;
  c.train.steps = 10;
  c.train.global_batch_size = c.train.micro_batch_size = 1;
  return c;
}

inline void set_dense(Config& c) {
  c.model.dense_layers = 1;
  c.model.dense_ffn = 10;
}
/// D = H A, on which two classes insist.
inline void set_width_of_heads(Config& c) {
  c.model.hidden_size = 24;
}
inline void set_mixtral(Config& c) {
  c.moe.renormalize = true;
}
inline void set_qwen3(Config& c) {
  c.model.qk_norm = QkNorm::head;
  set_dense(c);
}
inline void set_olmoe(Config& c) {
  set_width_of_heads(c);
  c.model.qk_norm = QkNorm::full;
}
inline void set_qwen2(Config& c) {
  set_width_of_heads(c);
  set_dense(c);
}
inline void set_ernie(Config& c) {
  set_dense(c);
  c.moe.shared_experts = 3;
  c.moe.bias_rate = 0.001;
}
inline void set_glm4(Config& c) {
  set_dense(c);
  c.moe.score = RouterScore::sigmoid;
  c.moe.renormalize = true;
  c.moe.shared_experts = 2;
  c.moe.bias_rate = 0.001;
  c.moe.routed_scale = 1.5;
  c.model.head_dim = 8;
  c.model.rope_fraction = 0.75;
  c.model.qk_norm = QkNorm::head;
}

/// n 4, p 6, v 5, c 9 (so H (n + p) 40, c + p 15, H (n + v) 36, H v 20).
inline void set_deepseek_v2(Config& c) {
  set_dense(c);
  c.model.attention = AttentionKind::mla;
  c.model.kv_latent = 9;
  c.model.nope_head_dim = 4;
  c.model.rope_head_dim = 6;
  c.model.value_head_dim = 5;
  c.model.num_kv_heads = 4;
  c.model.head_dim = 10;
  c.model.rope_scaling = RopeScaling::yarn;
  c.model.yarn_factor = 4;
  c.model.yarn_original_length = 4;
  c.model.yarn_beta_fast = 16;
  c.model.yarn_beta_slow = 0.5;
  c.model.yarn_mscale = 0.7;
  c.model.yarn_mscale_all_dim = 0.9;
  c.moe.shared_experts = 3;
  c.moe.routed_scale = 1.5;
}

/// Ling 2.0 has groups of experts. Its norms of heads are off here, because they are on by default.
inline void set_bailing(Config& c) {
  set_glm4(c);
  c.moe.num_experts = 16;
  c.moe.groups = 4;
  c.moe.groups_kept = 2;
  c.model.qk_norm = QkNorm::none;
}
inline void set_deepseek(Config& c) {
  set_width_of_heads(c);
  set_dense(c);
  c.moe.shared_experts = 3;
}

struct ClassCase {
  std::string name;
  void (*set)(Config&);
};
inline const std::vector<ClassCase> class_cases = {
    {"MixtralForCausalLM", set_mixtral},       {"Qwen3MoeForCausalLM", set_qwen3},     {"OlmoeForCausalLM", set_olmoe},
    {"Qwen2MoeForCausalLM", set_qwen2},        {"Ernie4_5_MoeForCausalLM", set_ernie}, {"Glm4MoeForCausalLM", set_glm4},
    {"DeepseekV2ForCausalLM", set_deepseek_v2}};

/// Classes that export does not choose by itself.
inline const std::vector<ClassCase> other_class_cases = {{"BailingMoeV2ForCausalLM", set_bailing},
                                                         {"DeepseekForCausalLM", set_deepseek}};
inline std::vector<ClassCase> all_class_cases() {
  std::vector<ClassCase> all = class_cases;
  all.insert(all.end(), other_class_cases.begin(), other_class_cases.end());
  return all;
}

inline Config config_of(const ClassCase& c) {
  Config config = small_config();
  c.set(config);
  return config;
}

/// The value of element i of the tensor with this name: no two alike, for norms and biases too.
inline double value_of(const std::string& name, int64_t i) {
  const double random = random_uniform(hash_key(3, name), static_cast<uint64_t>(i));
  return static_cast<double>(static_cast<float>(name.ends_with("norm.weight") ? 0.5 + random : random - 0.5));
}

/// A model of random weights under `parent`/step_00000000. Returns its path.
inline std::string make_checkpoint(const Config& config, const std::string& parent, const std::string& tokenizer = "") {
  check_config(config);
  const auto ops_device = make_device(config.run);
  const auto ops = ops_device->make_ops();
  ProcessGrid self;
  const SessionShape shape{Purpose::inference, 1, 4};
  Session session(*ops, self, config, shape, plan_session(config, shape, ops_device->traits()));
  const auto values = [](const std::string& name, int64_t count) {
    std::vector<double> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(value_of(name, i));
    return out;
  };
  Parameters& parameters = session.parameters();
  for (const Parameter& p : parameters.all())
    for (const LogicalTensor& part : p.logical)
      parameters.store(*ops, p, part, values(part.name, part.shape.elements()));
  for (const auto& b : parameters.router_biases()) {
    const std::vector<double> bias = values(b.name, b.bias.elements());
    std::copy(bias.begin(), bias.end(), b.bias.as<double>());
  }
  const std::vector<NamedTensor> tensors = model_tensors(session);
  CheckpointContents contents;
  contents.config_yaml = to_yaml(config);
  if (!tokenizer.empty()) contents.tokenizer = {{"tokenizer.model", tokenizer}};
  contents.model = tensors;
  return save_checkpoint(parent, contents);
}

/// The model of the first class, in a checkpoint beside which a test may write.
struct StoredModel {
  TemporaryDirectory dir;
  Config config = config_of(class_cases[0]);
  Checkpoint checkpoint{make_checkpoint(config, dir / "run")};
};

/// Runs `action` with a disk that is full at the first call that changes it, then at the second, and so on up to the
/// last. Each run must fail but for one more at the end, which meets no full disk. `look` is called after each run.
/// Returns the number of runs.
template <typename Action, typename Look>
int fail_at_each_call(const Action& action, const Look& look) {
  int calls = 0;
  for (bool reached = true; reached; ++calls) {
    FailingLayer layer(calls);
    const InterposedFileLayer interposed(layer);
    const std::string error = error_of(action);
    reached = layer.reached();
    INFO("call " << calls << ": " << error);
    CHECK(error.empty() != reached);
    look();
  }
  return calls;
}

/// A tensor's elements as numbers, whatever their type.
inline std::vector<double> numbers(const TensorSource& source, const std::string& name) {
  const auto& item = source.at(name);
  std::vector<double> out;
  const auto add = [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i + sizeof(T) <= item.bytes().size(); i += sizeof(T)) {
      T x;
      std::memcpy(&x, item.bytes().data() + i, sizeof(T));
      out.push_back(static_cast<double>(static_cast<float>(x)));
    }
  };
  if (item.entry->type == DType::f64) add(double{});
  if (item.entry->type == DType::f32) add(float{});
  if (item.entry->type == DType::bf16) add(bf16{});
  return out;
}

inline nlohmann::json read_json(const std::string& path) {
  return nlohmann::json::parse(get(path));
}

}  // namespace strand::test
