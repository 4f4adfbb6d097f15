// What is legal and does nothing.
#include <fmt/core.h>

#include <algorithm>
#include <iterator>

#include "config/schema.h"
#include "config/terms.h"

namespace strand {
namespace {

struct Collector {
  const Config& c;
  std::vector<std::string> found = {};

  void warn_if(bool idle, const char* sentence) {
    if (idle) found.emplace_back(sentence);
  }

  double weight(const TermRow& row) const { return row.weight == nullptr ? 0.0 : c.losses.*row.weight; }
  bool router_losses() const {
    return std::any_of(std::begin(term_table), std::end(term_table),
                       [this](const TermRow& row) { return weight(row) != 0; });
  }

  /// Why a weight of a term has no effect; "" where it has one.
  std::string idle_because(const TermRow& row) const {
    const MoeConfig& m = c.moe;
    if (row.idle == Idle::one_active_expert && m.top_k == 1)
      return fmt::format("{} compares pairs of a token's experts; with moe.top_k 1 it is 0", row.name);
    if (row.idle == Idle::all_experts_active && m.top_k == m.num_experts)
      return fmt::format("with moe.top_k = moe.num_experts {} is constant and has no gradient", row.name);
    if (row.idle == Idle::one_expert && m.num_experts == 1) return fmt::format("with one expert {} is 0", row.name);
    if (row.input == TermInput::neighbours && c.model.num_layers - c.model.dense_layers < 2)
      return fmt::format("{} pairs adjacent MoE layers; with fewer than two it is 0", row.name);
    return "";
  }

  void terms() {
    for (const TermRow& row : term_table)
      if (const std::string reason = idle_because(row); weight(row) != 0 && !reason.empty())
        found.push_back(fmt::format("losses.{}: {}", weight_key(row), reason));
  }

  void routing() {
    const MoeConfig& m = c.moe;
    const bool all_active = m.top_k == m.num_experts;
    const bool chooses = !all_active;
    warn_if(all_active && m.bias_rate > 0,
            "moe.bias_rate: with moe.top_k = moe.num_experts every expert is chosen whatever its bias");
    warn_if(
        m.top_k == 1 && m.renormalize && chooses,
        "moe.renormalize: with moe.top_k 1 every routing weight is 1, so the cross-entropy does not train the router");
  }

  void layers() {
    const int64_t moe_layers = c.model.num_layers - c.model.dense_layers;
    warn_if(moe_layers == 0 && router_losses(),
            "losses: every layer is dense (model.dense_layers = model.num_layers); no router, no router loss");
    warn_if(moe_layers == 0 && c.parallel.expert_parallel > 1,
            "parallel.expert_parallel: every layer is dense, there are no experts to spread");
    warn_if(c.model.dense_layers == 0 && c.model.dense_ffn > 0,
            "model.dense_ffn: model.dense_layers is 0, so nothing is that wide");
  }

  void attention() {
    const ModelConfig& m = c.model;
    const ModelConfig usual;
    warn_if(m.latent() && m.rope_fraction != usual.rope_fraction,
            "model.rope_fraction: latent attention rotates model.rope_head_dim dimensions of each head");
    warn_if(!m.yarn() && (m.yarn_factor != usual.yarn_factor || m.yarn_original_length != usual.yarn_original_length ||
                          m.yarn_beta_fast != usual.yarn_beta_fast || m.yarn_beta_slow != usual.yarn_beta_slow ||
                          m.yarn_mscale != usual.yarn_mscale || m.yarn_mscale_all_dim != usual.yarn_mscale_all_dim),
            "model.rope_scaling: with none, the keys model.yarn_* are never read");
    warn_if(!m.latent() && m.q_latent + m.kv_latent + m.nope_head_dim + m.rope_head_dim + m.value_head_dim > 0,
            "model.attention: with heads, q_latent, kv_latent, nope_head_dim, rope_head_dim and value_head_dim are "
            "never read");
  }

  void losses() {
    const LossConfig& w = c.losses;
    warn_if(w.sp_weight == 0 && w.sp_token_fraction < 1, "losses.sp_token_fraction: losses.sp_weight is 0");
    warn_if(w.cp_weight == 0 && w.cp_paths != CouplingPaths::token, "losses.cp_paths: losses.cp_weight is 0");
    warn_if(w.cp_weight == 0 && w.cp_sources != CouplingSources::all, "losses.cp_sources: losses.cp_weight is 0");
    warn_if(w.lb_weight == 0 && w.v_weight == 0 && w.lb_scope != StatisticsScope::sequence,
            "losses.lb_scope: losses.lb_weight and losses.v_weight are 0");
  }

  void course() {
    const TrainConfig& t = c.train;
    warn_if(c.schedule.kind != ScheduleKind::wsd && c.schedule.decay_steps > 0,
            "schedule.decay_steps: only schedule.kind wsd reads it");
    warn_if(t.eval_every > 0 && c.data.val.empty(),
            "train.eval_every: data.val is empty, so there is nothing to validate on, and train refuses it");
    warn_if(t.eval_every == 0 && !c.data.val.empty(), "data.val: train.eval_every is 0, so it is never read");
    warn_if(t.eval_every > t.steps,
            "train.eval_every: more than train.steps, so validation is only before the first step and after the last");
    warn_if(t.checkpoint_every > t.steps,
            "train.checkpoint_every: more than train.steps, so the only checkpoint is the last");
  }
};

}  // namespace

std::vector<std::string> config_warnings(const Config& config) {
  Collector collector{config};
  collector.terms();
  collector.routing();
  collector.layers();
  collector.attention();
  collector.losses();
  collector.course();
  return collector.found;
}

}  // namespace strand
