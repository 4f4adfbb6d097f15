// What is legal and does nothing.
#include <fmt/core.h>

#include "config/schema.h"

namespace strand {
namespace {

struct Collector {
  const Config& c;
  std::vector<std::string> found = {};

  void warn_if(bool idle, const char* sentence) {
    if (idle) found.emplace_back(sentence);
  }

  bool router_losses() const {
    const LossConfig& w = c.losses;
    return w.lb_weight > 0 || w.z_weight > 0 || w.sp_weight > 0 || w.cp_weight > 0 || w.o_weight > 0 || w.v_weight > 0;
  }

  void routing() {
    const MoeConfig& m = c.moe;
    const bool all_active = m.top_k == m.num_experts;
    const bool chooses = !all_active;
    warn_if(m.top_k == 1 && c.losses.sp_weight > 0,
            "losses.sp_weight: sp compares pairs of a token's experts; with moe.top_k 1 it is 0");
    warn_if(m.top_k == 1 && c.losses.o_weight > 0,
            "losses.o_weight: o compares pairs of a token's experts; with moe.top_k 1 it is 0");
    warn_if(all_active && c.losses.lb_weight > 0,
            "losses.lb_weight: with moe.top_k = moe.num_experts lb is constant and has no gradient");
    warn_if(all_active && m.bias_rate > 0,
            "moe.bias_rate: with moe.top_k = moe.num_experts every expert is chosen whatever its bias");
    warn_if(all_active && c.losses.cp_weight > 0,
            "losses.cp_weight: with moe.top_k = moe.num_experts cp is constant and has no gradient");
    warn_if(m.num_experts == 1 && c.losses.v_weight > 0, "losses.v_weight: with one expert v is 0");
    warn_if(
        m.top_k == 1 && m.renormalize && chooses,
        "moe.renormalize: with moe.top_k 1 every routing weight is 1, so the cross-entropy does not train the router");
  }

  void layers() {
    const int64_t moe_layers = c.model.num_layers - c.model.dense_layers;
    warn_if(moe_layers < 2 && c.losses.cp_weight > 0,
            "losses.cp_weight: cp pairs adjacent MoE layers; with fewer than two it is 0");
    warn_if(moe_layers == 0 && router_losses(),
            "losses: every layer is dense (model.dense_layers = model.num_layers); no router, no router loss");
    warn_if(moe_layers == 0 && c.parallel.expert_parallel > 1,
            "parallel.expert_parallel: every layer is dense, there are no experts to spread");
    warn_if(c.model.dense_layers == 0 && c.model.dense_ffn > 0,
            "model.dense_ffn: model.dense_layers is 0, so nothing is that wide");
  }

  void losses() {
    const LossConfig& w = c.losses;
    warn_if(w.sp_weight == 0 && w.sp_token_fraction < 1, "losses.sp_token_fraction: losses.sp_weight is 0");
    warn_if(w.cp_weight == 0 && w.cp_paths != CouplingPaths::token, "losses.cp_paths: losses.cp_weight is 0");
    warn_if(w.cp_weight == 0 && w.cp_sources != CouplingSources::all, "losses.cp_sources: losses.cp_weight is 0");
    warn_if(w.lb_weight == 0 && w.v_weight == 0 && w.lb_scope != StatisticsScope::sequence,
            "losses.lb_scope: neither losses.lb_weight nor losses.v_weight is above 0");
  }

  void course() {
    const TrainConfig& t = c.train;
    warn_if(c.schedule.kind != ScheduleKind::wsd && c.schedule.decay_steps > 0,
            "schedule.decay_steps: only schedule.kind wsd reads it");
    warn_if(t.eval_every > 0 && c.data.val.empty(), "train.eval_every: data.val is empty, so there is no validation");
    warn_if(t.eval_every == 0 && !c.data.val.empty(), "data.val: train.eval_every is 0, so it is never read");
    warn_if(t.eval_every > t.steps, "train.eval_every: more than train.steps, so no validation falls inside the run");
    warn_if(t.checkpoint_every > t.steps,
            "train.checkpoint_every: more than train.steps, so the only checkpoint is the last");
  }
};

}  // namespace

std::vector<std::string> config_warnings(const Config& config) {
  Collector collector{config};
  collector.routing();
  collector.layers();
  collector.losses();
  collector.course();
  return collector.found;
}

}  // namespace strand
