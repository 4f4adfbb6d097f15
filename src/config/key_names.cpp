#include "config/key_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "config/keys.h"
#include "core/nearest.h"

namespace strand::schema {

namespace {
using Names = std::vector<std::string>;
constexpr size_t most_by_meaning = 3;

/// What other programs (transformers' classes and its trainer, nanoGPT) call what is here the key `path`.
struct NameElsewhere {
  const char* name;
  const char* path;
};
constexpr NameElsewhere names_elsewhere[] = {
    {"block_size", "data.sequence_length"},
    {"d_ff", "moe.expert_ffn"},
    {"d_model", "model.hidden_size"},
    {"first_k_dense_replace", "model.dense_layers"},
    {"grad_clip", "optimizer.clip_norm"},
    {"kv_lora_rank", "model.kv_latent"},
    {"learning_rate", "optimizer.lr"},
    {"lr_scheduler_type", "schedule.kind"},
    {"max_grad_norm", "optimizer.clip_norm"},
    {"max_iters", "train.steps"},
    {"max_position_embeddings", "data.sequence_length"},
    {"max_seq_len", "data.sequence_length"},
    {"moe_intermediate_size", "moe.expert_ffn"},
    {"n_embd", "model.hidden_size"},
    {"n_head", "model.num_heads"},
    {"n_layer", "model.num_layers"},
    {"n_routed_experts", "moe.num_experts"},
    {"n_shared_experts", "moe.shared_experts"},
    {"norm_topk_prob", "moe.renormalize"},
    {"num_attention_heads", "model.num_heads"},
    {"num_experts_per_tok", "moe.top_k"},
    {"num_hidden_layers", "model.num_layers"},
    {"num_key_value_heads", "model.num_kv_heads"},
    {"num_local_experts", "moe.num_experts"},
    {"output_dir", "run.dir"},
    {"q_lora_rank", "model.q_latent"},
    {"rms_norm_eps", "model.norm_eps"},
    {"router_aux_loss_coef", "losses.lb_weight"},
    {"save_steps", "train.checkpoint_every"},
    {"scoring_func", "moe.score"},
    {"tie_word_embeddings", "model.tied_embeddings"},
};

/// The paths of the keys of which `wanted` is true.
template <typename Wanted>
Names paths_where(const Wanted& wanted) {
  Names paths;
  for (const Key& key : keys()) {
    if (wanted(key)) paths.push_back(key.path());
  }
  return paths;
}

bool is_one_of(const std::string& name, const Names& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Names names_in(const std::string& group) {
  Names names;
  for (const Key& key : keys()) {
    if (key.group == group) names.push_back(key.name);
  }
  return names;
}

Names near_in_group(const std::string& group, const std::string& name) {
  const Names near = nearest_names(name, names_in(group));
  return paths_where([&](const Key& key) { return key.group == group && is_one_of(key.name, near); });
}

Names near_in_any_group(const std::string& name) {
  Names names;
  for (const Key& key : keys()) {
    if (!is_one_of(key.name, names)) names.push_back(key.name);
  }
  const Names near = nearest_names(name, names);
  return paths_where([&](const Key& key) { return is_one_of(key.name, near); });
}

/// Keys whose meaning has the words of `name`; of a name that is one word, none, because it would be in many.
Names near_by_meaning(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  std::replace(name.begin(), name.end(), '-', ' ');
  if (name.find(' ') == std::string::npos) return {};
  Names paths = paths_where([&](const Key& key) { return key.meaning.find(name) != std::string::npos; });
  if (paths.size() > most_by_meaning) paths.clear();
  return paths;
}

/// The paths that were likely meant.
Names likely_keys(const std::string& group, const std::string& name) {
  if (Names same = paths_where([&](const Key& key) { return key.name == name; }); !same.empty()) return same;
  for (const NameElsewhere& elsewhere : names_elsewhere)
    if (elsewhere.name == name) return {elsewhere.path};
  if (Names near = near_in_group(group, name); !near.empty()) return near;
  if (Names near = near_in_any_group(name); !near.empty()) return near;
  return near_by_meaning(name);
}

std::string question(const Names& names) {
  return fmt::format(" (did you mean {}?)", alternatives(names));
}

constexpr const char* all_keys_text = " (strand config --help-keys explains all keys)";
}  // namespace

std::string nearest_key(const std::string& group, const std::string& name) {
  if (const Names likely = likely_keys(group, name.empty() ? group : name); !likely.empty()) return question(likely);
  const Names names = names_in(group);
  return names.empty() ? all_keys_text : fmt::format(" (keys of {}: {})", group, fmt::join(names, ", "));
}

std::string nearest_group_or_key(const std::string& word) {
  for (const Key& key : keys()) {
    if (key.path() == word) return fmt::format(" (keys are nested: write '{}' under '{}:')", key.name, key.group);
  }
  if (const Names near = nearest_names(word, groups()); !near.empty()) return question(near);
  if (const Names likely = likely_keys("", word); !likely.empty()) return question(likely);
  return fmt::format(" (groups: {})", fmt::join(groups(), ", "));
}

}  // namespace strand::schema
