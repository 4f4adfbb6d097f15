#include "train/reference_case.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>

#include "config/schema.h"
#include "config/terms.h"
#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

namespace {
/// Reads the object `config` key by key. A key that is left unread at the end is an error.
class ConfigReader {
 public:
  ConfigReader(const nlohmann::json& json, std::string where) : json_(json), where_(std::move(where)) {}

  template <typename T>
  void read(const char* key, T& out) {
    seen_.insert(key);
    require(json_.contains(key), "{}: the config in its metadata has no {}", where_, key);
    const nlohmann::json& value = json_.at(key);
    require(holds(value, out), "{}: {} in the config is {}, of the wrong type", where_, key, value.dump());
    out = value.get<T>();
  }

  /// Reads a key that files of an older program lack. Where it is not there, the default stays.
  template <typename T>
  void read_if_there(const char* key, T& out) {
    if (json_.contains(key)) read(key, out);
  }

  template <typename E>
  void choice(const char* key, E& out, std::initializer_list<std::pair<const char*, E>> choices) {
    std::string word;
    read(key, word);
    for (const auto& [name, value] : choices) {
      if (word == name) {
        out = value;
        return;
      }
    }
    fail("{}: {} in the config is '{}', which this program does not know", where_, key, word);
  }

  template <typename E>
  void choice_if_there(const char* key, E& out, std::initializer_list<std::pair<const char*, E>> choices) {
    if (json_.contains(key)) choice(key, out, choices);
  }

  void finish() const {
    for (const auto& item : json_.items())
      require(seen_.contains(item.key()), "{}: the config has {}, which this program does not know", where_,
              item.key());
  }

 private:
  // The library would convert 2.5 to 2 and true to 1, so types are compared first.
  static bool holds(const nlohmann::json& value, int64_t) { return value.is_number_integer(); }
  static bool holds(const nlohmann::json& value, double) { return value.is_number(); }
  static bool holds(const nlohmann::json& value, bool) { return value.is_boolean(); }
  static bool holds(const nlohmann::json& value, const std::string&) { return value.is_string(); }
  static bool holds(const nlohmann::json& value, const std::vector<int64_t>&) {
    return value.is_array() &&
           std::all_of(value.begin(), value.end(), [](const nlohmann::json& v) { return v.is_number_integer(); });
  }

  const nlohmann::json& json_;
  std::string where_;
  std::set<std::string> seen_;
};

void read_model(ConfigReader& r, Config& c) {
  r.read("vocab_size", c.model.vocab_size);
  r.read("hidden_size", c.model.hidden_size);
  r.read("num_layers", c.model.num_layers);
  r.read("num_heads", c.model.num_heads);
  r.read("num_kv_heads", c.model.num_kv_heads);
  r.read("head_dim", c.model.head_dim);
  r.choice_if_there("attention", c.model.attention, {{"heads", AttentionKind::heads}, {"mla", AttentionKind::mla}});
  r.read_if_there("q_latent", c.model.q_latent);
  r.read_if_there("kv_latent", c.model.kv_latent);
  r.read_if_there("nope_head_dim", c.model.nope_head_dim);
  r.read_if_there("rope_head_dim", c.model.rope_head_dim);
  r.read_if_there("value_head_dim", c.model.value_head_dim);
  r.read("rope_theta", c.model.rope_theta);
  r.read("rope_fraction", c.model.rope_fraction);
  r.choice_if_there("rope_scaling", c.model.rope_scaling, {{"none", RopeScaling::none}, {"yarn", RopeScaling::yarn}});
  r.read_if_there("yarn_factor", c.model.yarn_factor);
  r.read_if_there("yarn_original_length", c.model.yarn_original_length);
  r.read_if_there("yarn_beta_fast", c.model.yarn_beta_fast);
  r.read_if_there("yarn_beta_slow", c.model.yarn_beta_slow);
  r.read_if_there("yarn_mscale", c.model.yarn_mscale);
  r.read_if_there("yarn_mscale_all_dim", c.model.yarn_mscale_all_dim);
  r.choice("qk_norm", c.model.qk_norm, {{"none", QkNorm::none}, {"head", QkNorm::head}, {"full", QkNorm::full}});
  r.read("norm_eps", c.model.norm_eps);
  r.read("tied_embeddings", c.model.tied_embeddings);
  r.read("dense_layers", c.model.dense_layers);
  r.read("dense_ffn", c.model.dense_ffn);
  r.read("num_experts", c.moe.num_experts);
  r.read("top_k", c.moe.top_k);
  r.read_if_there("groups", c.moe.groups);
  r.read_if_there("groups_kept", c.moe.groups_kept);
  r.read("expert_ffn", c.moe.expert_ffn);
  r.read("shared_experts", c.moe.shared_experts);
  r.choice("score", c.moe.score, {{"softmax", RouterScore::softmax}, {"sigmoid", RouterScore::sigmoid}});
  r.read("renormalize", c.moe.renormalize);
  r.read("routed_scale", c.moe.routed_scale);
  r.read("bias_rate", c.moe.bias_rate);
}

void read_objective(ConfigReader& r, LossConfig& l) {
  for (const TermRow& row : term_table)
    if (row.weight != nullptr) r.read_if_there(weight_key(row).c_str(), l.*row.weight);
  r.choice("cp_paths", l.cp_paths, {{"token", CouplingPaths::token}, {"batch", CouplingPaths::batch}});
  r.choice("cp_sources", l.cp_sources, {{"all", CouplingSources::all}, {"activated", CouplingSources::activated}});
  r.choice("lb_scope", l.lb_scope,
           {{"sequence", StatisticsScope::sequence}, {"microbatch", StatisticsScope::microbatch}});
}

void read_optimizer(ConfigReader& r, Config& c) {
  r.read("lr", c.optimizer.lr);
  r.read("min_lr", c.optimizer.min_lr);
  r.read("beta1", c.optimizer.beta1);
  r.read("beta2", c.optimizer.beta2);
  r.read("adam_eps", c.optimizer.eps);
  r.read("weight_decay", c.optimizer.weight_decay);
  r.read("clip_norm", c.optimizer.clip_norm);
  r.read("warmup_steps", c.schedule.warmup_steps);
  r.read("total_steps", c.train.steps);
}
}  // namespace

ReferenceCase::ReferenceCase(const std::string& path) : file_(path) {
  read_config();
  read_batch();
}

void ReferenceCase::read_config() {
  const auto& metadata = file_.metadata();
  const auto text = metadata.find("config");
  require(text != metadata.end(), "{}: no 'config' in its metadata; is it a reference file?", file_.path());
  const auto name = metadata.find("case");
  name_ = name != metadata.end() ? name->second : file_.path();
  const nlohmann::json json = nlohmann::json::parse(text->second, nullptr, false);
  require(json.is_object(), "{}: the 'config' in its metadata is not a JSON object", file_.path());
  ConfigReader reader(json, file_.path());
  read_model(reader, config_);
  read_objective(reader, config_.losses);
  read_optimizer(reader, config_);
  reader.read("micro_batches", data_.micro_batches);
  reader.finish();
  try {
    check_model_config(config_);
  } catch (const Error& error) {
    fail("{}: {}", file_.path(), error.what());
  }
  require(config_.train.steps >= 1, "{}: total_steps is {}", file_.path(), config_.train.steps);
  require(!data_.micro_batches.empty(), "{}: micro_batches is empty", file_.path());
  for (int64_t b : data_.micro_batches) {
    require(b >= 1 && b <= INT32_MAX, "{}: a micro-batch of {} sequences", file_.path(), b);
    const bool by_micro_step = config_.losses.lb_scope == StatisticsScope::microbatch;
    require(!by_micro_step || b == data_.micro_batches[0], "{}: lb_scope microbatch needs micro-batches of equal size",
            file_.path());
  }
}

void ReferenceCase::read_batch() {
  const TensorEntry* tokens = file_.find("input.tokens");
  const TensorEntry* targets = file_.find("input.targets");
  require(tokens && targets, "{}: no input.tokens or input.targets", file_.path());
  require(tokens->shape.size() == 2 && tokens->shape == targets->shape,
          "{}: input.tokens and input.targets must be [B, S]", file_.path());
  require(tokens->dtype == "I32" && targets->dtype == "I32", "{}: input.tokens and input.targets must be I32",
          file_.path());
  require(tokens->shape[0] == data_.sequences(), "{}: {} sequences, but micro_batches add up to {}", file_.path(),
          tokens->shape[0], data_.sequences());
  data_.tokens = tokens->shape[1];
  for (double v : values("input.tokens", tokens->shape)) data_.inputs.push_back(static_cast<int32_t>(v));
  for (double v : values("input.targets", targets->shape)) data_.targets.push_back(static_cast<int32_t>(v));
  config_.data.sequence_length = data_.tokens;
}

std::vector<double> ReferenceCase::values(const std::string& tensor, const std::vector<int64_t>& shape) const {
  const TensorEntry* entry = file_.find(tensor);
  require(entry != nullptr, "{}: no tensor {}", file_.path(), tensor);
  require(entry->shape == shape, "{}: {} is {}, but this model needs {}", file_.path(), tensor,
          shape_text(entry->shape), shape_text(shape));
  require(entry->type == DType::f32 || entry->type == DType::i32, "{}: {} is {}, expected F32 or I32", file_.path(),
          tensor, entry->dtype);
  const std::span<const std::byte> bytes = file_.bytes(*entry);
  return widened(bytes.data(), *entry->type, static_cast<int64_t>(bytes.size() / size_of(*entry->type)));
}

}  // namespace strand
