#pragma once
// Tiny models of every class, as checkpoints with real initial weights, made by the model code that export/ does not
// know: its names and shapes are the expectation.
#include "tests/catch.h"
#include <map>
#include <nlohmann/json.hpp>

#include "../checkpoint/fixtures.h"
#include "checkpoint/checkpoint.h"
#include "config/schema.h"
#include "model/backend.h"
#include "model/session.h"
#include "train/model_state.h"

namespace strand::test {

/// No test here is about what survives a loss of power.
inline UnsyncedLayer unsynced_layer;
inline const InterposedFileLayer unsynced(unsynced_layer);

/// A configuration that is legal and small: D 8, L 2, H 2, G 1, A 4, E 3, K 2, F 6, V 11.
inline Config small_config() {
  Config c;
  c.run.device = DeviceKind::reference;
  c.run.precision = Precision::fp64;
  c.model.vocab_size = 11;
  c.model.hidden_size = 8;
  c.model.num_layers = 2;
  c.model.num_heads = 2;
  c.model.num_kv_heads = 1;
  c.model.head_dim = 4;
  c.model.tied_embeddings = false;
  c.moe.num_experts = 3;
  c.moe.top_k = 2;
  c.moe.expert_ffn = 6;
  c.data.sequence_length = 16;
  c.train.steps = 10;
  c.train.global_batch_size = c.train.micro_batch_size = 1;
  return c;
}

inline void set_mixtral(Config& c) {
  c.moe.renormalize = true;
}
inline void set_qwen3(Config& c) {
  c.model.qk_norm = QkNorm::head;
  c.model.dense_layers = 1;
  c.model.dense_ffn = 10;
}
inline void set_olmoe(Config& c) {
  c.model.qk_norm = QkNorm::full;
}
inline void set_qwen2(Config&) {}
inline void set_ernie(Config& c) {
  c.moe.shared_experts = 2;
  c.moe.bias_rate = 0.001;
}
inline void set_glm4(Config& c) {
  c.moe.score = RouterScore::sigmoid;
  c.moe.renormalize = true;
  c.moe.shared_experts = 1;
  c.moe.bias_rate = 0.001;
  c.moe.routed_scale = 1.5;
  c.model.rope_fraction = 0.5;
  c.model.qk_norm = QkNorm::head;
}

struct ClassCase {
  std::string name;
  void (*set)(Config&);
};
inline const std::vector<ClassCase> class_cases = {
    {"MixtralForCausalLM", set_mixtral}, {"Qwen3MoeForCausalLM", set_qwen3},     {"OlmoeForCausalLM", set_olmoe},
    {"Qwen2MoeForCausalLM", set_qwen2},  {"Ernie4_5_MoeForCausalLM", set_ernie}, {"Glm4MoeForCausalLM", set_glm4}};

inline Config config_of(const ClassCase& c) {
  Config config = small_config();
  c.set(config);
  return config;
}

/// Initial weights, and biases that are not zero, under `parent`/step_00000000. Returns its path.
inline std::string make_checkpoint(const Config& config, const std::string& parent, const std::string& tokenizer = "") {
  check_config(config);
  const auto ops = make_backend(config.run);
  ProcessGrid self;
  Session session(*ops, self, config, {Purpose::inference, 1, 4});
  session.parameters().initialize(*ops, 3);
  for (const auto& b : session.parameters().router_biases())
    for (int64_t e = 0; e < config.moe.num_experts; ++e) b.bias.as<double>()[e] = 0.25 * static_cast<double>(e + 1);
  const std::vector<NamedTensor> tensors = model_tensors(session);
  CheckpointContents contents;
  contents.config_yaml = to_yaml(config);
  contents.tokenizer_model = tokenizer;
  contents.model = tensors;
  return save_checkpoint(parent, contents);
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
