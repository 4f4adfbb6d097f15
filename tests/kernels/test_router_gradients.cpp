// The router's backward is the derivative of gates and of every router term: central differences on the reference
// backend, through two adjacent MoE layers with different numbers of experts, so that CP in both forms is in it.
#include "gradients.h"

using namespace strand;
using namespace strand::test;

namespace {
struct Weights {
  double lb = 0, z = 0, v = 0, cp_token = 0, cp_batch = 0, entropy = 0;
};

struct Case {
  RouterScore score;
  bool renormalize;
  double routed_scale;
  CouplingSources sources;
  int64_t groups;
};

constexpr int64_t T = 6;

/// One MoE layer's router and everything that Route and its followers write.
struct Layer {
  int64_t E, K;
  Gating gating;
  Tensor logits, bias, dgates;
  Tensor probs, selected, gates, statistics, source_mass, top_mass, top_experts;

  Layer(ReferenceStage& s, const std::string& name, int64_t experts, int64_t top_k, const Case& c)
      : E(experts), K(top_k) {
    gating = {.score = c.score, .renormalize = c.renormalize, .routed_scale = c.routed_scale, .top_k = K};
    logits = s.acc(name + " logits", {T, E});
    bias = s.acc(name + " bias", {E}, 0.1);
    dgates = s.acc(name + " dgates", {T, K});
    probs = s.acc_out({T, E});
    selected = s.ids_out({T, K});
    gates = s.acc_out({T, K});
    statistics = s.acc_out({2, c.groups, E});
    source_mass = s.acc_out({T});
    top_mass = s.acc_out({T});
    top_experts = s.ids_out({T, K});
  }
};

class Network {
 public:
  Network(const Case& c, const Weights& w)
      : case_(c), w_(w), lower_(s_, "lower", 5, 2, c), upper_(s_, "upper", 4, 3, c), joint_(s_.acc_out({5, 4})) {}

  void check() {
    forward();
    const Tensor masks = s_.acc_out({lower_.E, upper_.E});
    s_.run(CouplingSelect{.joint = joint_, .top_k = upper_.K, .cp_scale = 0, .mask = masks, .cp = s_.zero()});
    const Tensor dlower = backward(lower_, masks, CouplingJointBackward::Side::lower);
    const Tensor dupper = backward(upper_, masks, CouplingJointBackward::Side::upper);
    check_gradient("lower logits", lower_.logits, dlower, [&] { return forward(); });
    check_gradient("upper logits", upper_.logits, dupper, [&] { return forward(); });
  }

 private:
  double group_tokens() const { return static_cast<double>(T) / static_cast<double>(case_.groups); }
  /// LB and V as their formulas have them, means over groups.
  double lb_scale(const Layer& layer) const {
    const double g = group_tokens();
    return static_cast<double>(layer.E) / (static_cast<double>(layer.K) * g * g) / static_cast<double>(case_.groups);
  }
  double v_scale(const Layer& layer) const { return 1.0 / static_cast<double>(T * layer.E); }

  double forward(const Layer& layer) {
    s_.run(Route{.gating = layer.gating,
                 .logits = layer.logits,
                 .bias = layer.bias,
                 .probs = layer.probs,
                 .selected = layer.selected,
                 .gates = layer.gates});
    s_.run(RoutingStatistics{.probs = layer.probs,
                             .selected = layer.selected,
                             .statistics = layer.statistics,
                             .step_counts = s_.zeros({layer.E})});
    s_.run(CouplingMasses{.sources = case_.sources,
                          .probs = layer.probs,
                          .selected = layer.selected,
                          .source_mass = layer.source_mass,
                          .top_mass = layer.top_mass,
                          .top_experts = layer.top_experts});
    const Tensor lb = s_.zero(), z = s_.zero(), v = s_.zero(), entropy = s_.zero();
    s_.run(RouterTerms{.logits = layer.logits,
                       .probs = layer.probs,
                       .statistics = layer.statistics,
                       .mean_share = 1 / group_tokens(),
                       .lb_scale = lb_scale(layer),
                       .z_scale = 1.0 / T,
                       .v_scale = v_scale(layer),
                       .entropy_scale = 1.0 / T,
                       .lb = lb,
                       .z = z,
                       .v = v,
                       .entropy = entropy});
    return functional(layer.dgates, layer.gates) + w_.lb * s_.read(lb)[0] + w_.z * s_.read(z)[0] +
           w_.v * s_.read(v)[0] + w_.entropy * s_.read(entropy)[0];
  }

  double forward() {
    const double layers = forward(lower_) + forward(upper_);
    const Tensor token_form = s_.zero(), batch_form = s_.zero();
    s_.run(CouplingTokenTerm{.lower_source_mass = lower_.source_mass,
                             .upper_top_mass = upper_.top_mass,
                             .cp_scale = 1.0 / T,
                             .cp = token_form});
    s_.run(CouplingJoint{.sources = case_.sources,
                         .lower_probs = lower_.probs,
                         .lower_selected = lower_.selected,
                         .upper_probs = upper_.probs,
                         .joint = joint_});
    const Tensor mask = s_.acc_out({lower_.E, upper_.E});
    s_.run(CouplingSelect{.joint = joint_, .top_k = upper_.K, .cp_scale = 1.0 / T, .mask = mask, .cp = batch_form});
    return layers + w_.cp_token * s_.read(token_form)[0] + w_.cp_batch * s_.read(batch_form)[0];
  }

  Tensor backward(const Layer& layer, const Tensor& mask, CouplingJointBackward::Side side) {
    const bool is_lower = side == CouplingJointBackward::Side::lower;
    const Tensor dprobs = s_.zeros({T, layer.E});
    s_.run(CouplingJointBackward{.side = side,
                                 .sources = case_.sources,
                                 .lower_probs = lower_.probs,
                                 .lower_selected = lower_.selected,
                                 .upper_probs = upper_.probs,
                                 .mask = mask,
                                 .cp_scale = w_.cp_batch / T,
                                 .dprobs = dprobs});
    RouterBackward op{.gating = layer.gating,
                      .logits = layer.logits,
                      .probs = layer.probs,
                      .selected = layer.selected,
                      .gates = layer.gates,
                      .dgates = layer.dgates,
                      .statistics = layer.statistics,
                      .mean_share = 1 / group_tokens(),
                      .lb_scale = w_.lb * lb_scale(layer),
                      .z_scale = w_.z / T,
                      .v_scale = w_.v * v_scale(layer),
                      .entropy_scale = w_.entropy / T,
                      .cp_scale = w_.cp_token / T,
                      .cp_sources = case_.sources,
                      .dprobs = dprobs,
                      .dlogits = s_.acc_out({T, layer.E})};
    if (is_lower) {
      op.above_top_mass = upper_.top_mass;
    } else {
      op.below_source_mass = lower_.source_mass;
      op.top_experts = layer.top_experts;
    }
    s_.run(op);
    return op.dlogits;
  }

  ReferenceStage s_;
  Case case_;
  Weights w_;
  Layer lower_, upper_;
  Tensor joint_;
};
}  // namespace

TEST_CASE("gradients: router, every term alone and all together") {
  const Weights all_weights[] = {
      {}, {.lb = 1}, {.z = 1}, {.v = 1}, {.cp_token = 1}, {.cp_batch = 1}, {.entropy = 1}, {2, 0.5, 3, 1.5, 4, -2}};
  for (RouterScore score : {RouterScore::softmax, RouterScore::sigmoid}) {
    for (bool renormalize : {false, true}) {
      for (CouplingSources sources : {CouplingSources::all, CouplingSources::activated}) {
        for (int64_t groups : {1, 3}) {
          int which = 0;
          for (const Weights& w : all_weights) {
            INFO("score " << int(score) << " renormalize " << renormalize << " sources " << int(sources) << " groups "
                          << groups << " weights " << which++);
            Network(
                {.score = score, .renormalize = renormalize, .routed_scale = 2.5, .sources = sources, .groups = groups},
                w)
                .check();
          }
        }
      }
    }
  }
}
