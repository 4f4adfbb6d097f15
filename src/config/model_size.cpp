#include "config/model_size.h"

namespace strand {
namespace {

int64_t norm_weights(const ModelConfig& m) {
  if (m.latent()) return m.q_latent + m.kv_latent;
  switch (m.qk_norm) {
    case QkNorm::none:
      return 0;
    case QkNorm::head:
      return 2 * m.head_dim;
    case QkNorm::full:
      return (m.num_heads + m.num_kv_heads) * m.head_dim;
  }
  return 0;
}

/// Elements of the matrices of attention in a layer.
int64_t attention_weights(const ModelConfig& m) {
  const int64_t D = m.hidden_size, HA = m.num_heads * m.head_dim;
  const int64_t output = m.num_heads * m.value_dim() * D;
  if (!m.latent()) return (HA + 2 * m.num_kv_heads * m.head_dim) * D + output;
  const int64_t queries = m.q_latent == 0 ? HA * D : m.q_latent * (D + HA);
  return queries + (m.kv_latent + m.rope_head_dim) * D +
         m.num_heads * (m.nope_head_dim + m.value_head_dim) * m.kv_latent + output;
}

}  // namespace

ModelSize model_size(const Config& config) {
  const ModelConfig& m = config.model;
  const MoeConfig& moe = config.moe;
  const int64_t D = m.hidden_size;
  const int64_t attention = attention_weights(m);
  const int64_t expert = 3 * D * moe.expert_ffn;
  const int64_t dense = m.dense_layers * 3 * D * m.dense_ffn;
  const int64_t moe_layers = m.num_layers - m.dense_layers;
  const int64_t head = m.vocab_size * D;

  const auto matrices = [&](int64_t experts) {
    return m.num_layers * attention + moe_layers * (moe.num_experts * D + experts * expert) + dense;
  };
  const int64_t norms = D + m.num_layers * (2 * D + norm_weights(m));

  // A score is a product over A numbers, and a sum of values one over v.
  const double scores_and_sums =
      static_cast<double>(m.num_heads) * static_cast<double>(m.head_dim + m.value_dim()) / 2.0;

  ModelSize size;
  size.parameters = head * (m.tied_embeddings ? 1 : 2) + norms + matrices(moe.num_experts + moe.shared_experts);
  size.active_parameters = head + matrices(moe.top_k + moe.shared_experts);
  size.training_flops_per_token =
      6.0 * static_cast<double>(size.active_parameters) +
      6.0 * static_cast<double>(m.num_layers) * static_cast<double>(config.data.sequence_length) * scores_and_sums;
  return size;
}

}  // namespace strand
