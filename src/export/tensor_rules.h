#pragma once
// Functions with which the tables of classes and architectures describe tensors. This header is private to export/.
#include <string>
#include <vector>

#include "export/family.h"

namespace strand::hf {

// What a model has, for TensorRule::applies.
inline bool has_head(const Config& c) {
  return !c.model.tied_embeddings;
}
inline bool has_no_head(const Config& c) {
  return c.model.tied_embeddings;
}
inline bool has_shared(const Config& c) {
  return c.moe.shared_experts > 0;
}
inline bool has_no_shared(const Config& c) {
  return c.moe.shared_experts == 0;
}
inline bool has_bias(const Config& c) {
  return c.moe.bias_rate > 0;
}
inline bool has_no_bias(const Config& c) {
  return c.moe.bias_rate == 0;
}
inline bool has_head_norms(const Config& c) {
  return c.model.qk_norm == QkNorm::head;
}
inline bool has_query_latent(const Config& c) {
  return c.model.q_latent > 0;
}
inline bool has_no_query_latent(const Config& c) {
  return c.model.q_latent == 0;
}

using Tensors = std::vector<TensorRule>;

Tensors operator+(Tensors tensors, const Tensors& more);

/// All tensors outside the FFN, whose names all classes share.
Tensors llama_tensors(Layout rotary = Layout::same);
Tensors qk_norms(Size of_queries, Size of_keys, bool (*applies)(const Config&) = nullptr);

/// The names of the router and of an expert's three matrices. They are the defaults in all classes but Mixtral.
struct ExpertNames {
  std::string block = "mlp", gate = "gate_proj", up = "up_proj", down = "down_proj";
};

Tensors experts(const ExpertNames& names = {});
Tensors dense_layers();
Tensors shared_experts();

TensorRule constant(Scope scope, const std::string& name, Size rows, Size columns, float value);
/// A shared expert that a class needs and our model does not have. Its output is exactly zero.
Tensors dead_shared_expert(const std::string& name, Size width, bool (*applies)(const Config&) = nullptr);
/// The bias of expert selection. It is zero where our model has none.
Tensors selection_bias(const std::string& name, Layout layout, const std::string& alias = "");

/// Layers that predict further tokens (MTP), which are stored after the model's own layers: those that config.json
/// counts in num_nextn_predict_layers, and those that have the projection of such a layer.
LeftoverRule prediction_layers();
/// ERNIE's form of the same: tensors with "mtp" in their names.
LeftoverRule prediction_blocks();

}  // namespace strand::hf
