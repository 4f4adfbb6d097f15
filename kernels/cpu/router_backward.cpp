// The gradient of every router loss and of the routing weights, gathered into dlogits in one visit of each token.
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/expert_scores.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {
namespace {

using simd::vfloat;

/// The factors of one call, in the precision of the rows they meet.
struct Factors {
  explicit Factors(const RouterBackward& op)
      : routed_scale(static_cast<float>(op.gating.routed_scale)),
        variance(static_cast<float>(2 * op.v_scale)),
        coupling(static_cast<float>(op.cp_scale)),
        entropy(static_cast<float>(op.entropy_scale)),
        z(2 * op.z_scale) {}
  float routed_scale;
  float variance;  ///< ∂V/∂p = −variance · (p − P)
  float coupling;
  float entropy;  ///< ∂entropy/∂p = −entropy · ln p, and a constant, which p's sum of 1 makes void
  double z;
};

/// What LB and V add to ∂p of every token of a group: slope − variance (p − mean).
struct GroupRows {
  float* slope;  ///< [groups, E]
  float* mean;   ///< [groups, E]
};

int64_t groups_of(const RouterBackward& op) {
  return op.statistics ? op.statistics.dim(1) : 1;
}

struct Buffers {
  Buffers(Workspace& memory, const RouterBackward& op)
      : groups(memory.take<float>(2 * groups_of(op) * op.logits.dim(1))), token(memory, 2 * op.logits.dim(1)) {}
  float* groups;        ///< [2, groups, E]
  ThreadBuffers token;  ///< [2, E]
};

/// `memory` [2, groups, E]
GroupRows group_rows(const RouterBackward& op, int64_t groups, float* memory) {
  const int64_t numbers = groups * op.logits.dim(1);
  const GroupRows rows{memory, memory + numbers};
  if (op.lb_scale == 0 && op.v_scale == 0) {
    std::fill_n(memory, 2 * numbers, 0.0f);
    return rows;
  }
  const float* counts = op.statistics.as<float>();
  for (int64_t i = 0; i < numbers; ++i) {
    rows.slope[i] = static_cast<float>(op.lb_scale * counts[i]);
    rows.mean[i] = static_cast<float>(op.mean_share * counts[numbers + i]);
  }
  return rows;
}

/// One token's rows.
struct Token {
  const float* logits;
  const float* probs;
  const int32_t* selected;
  const float* gates;
  const float* dgates;
  float* dlogits;
};

class TokenBackward {
 public:
  TokenBackward(const RouterBackward& op, const GroupRows& rows, int64_t group_tokens)
      : op_(op),
        factors_(op),
        rows_(rows),
        experts_(op.logits.dim(1)),
        top_k_(op.gating.top_k),
        group_tokens_(group_tokens) {}

  /// `buffer`: 2 E floats
  void run(int64_t t, float* buffer) const {
    const Token token = {op_.logits.as<float>() + t * experts_,   op_.probs.as<float>() + t * experts_,
                         op_.selected.as<int32_t>() + t * top_k_, op_.gates.as<float>() + t * top_k_,
                         op_.dgates.as<float>() + t * top_k_,     op_.dlogits.as<float>() + t * experts_};
    float* dprobs = buffer;
    float* work = buffer + experts_;
    gradient_of_probs(t, token, dprobs);
    if (op_.gating.score == RouterScore::softmax) {
      through_softmax(token, dprobs);
    } else {
      through_sigmoid(token, dprobs, work);
    }
    if (factors_.z != 0) add_z(token, work);
  }

 private:
  void gradient_of_probs(int64_t t, const Token& token, float* dprobs) const {
    const int64_t group = t / group_tokens_;
    const float* slope = rows_.slope + group * experts_;
    const float* mean = rows_.mean + group * experts_;
    const float above = op_.above_top_mass ? factors_.coupling * op_.above_top_mass.as<float>()[t] : 0.0f;
    const float above_all = op_.cp_sources == CouplingSources::all ? above : 0.0f;
    simd::for_lanes(experts_, [&](int64_t e, auto lanes) {
      const vfloat deviation = simd::load(token.probs + e, lanes) - simd::load(mean + e, lanes);
      simd::store(dprobs + e, simd::load(slope + e, lanes) - factors_.variance * deviation - above_all, lanes);
    });
    if (factors_.entropy != 0) {
      simd::for_lanes(experts_, [&](int64_t e, auto lanes) {
        const vfloat logarithm = simd::log(simd::load(token.probs + e, lanes));
        simd::store(dprobs + e, simd::load(dprobs + e, lanes) - factors_.entropy * logarithm, lanes);
      });
    }
    if (op_.dprobs) {
      const float* more = op_.dprobs.as<float>() + t * experts_;
      simd::for_lanes(experts_, [&](int64_t e, auto lanes) {
        simd::store(dprobs + e, simd::load(dprobs + e, lanes) + simd::load(more + e, lanes), lanes);
      });
    }
    if (op_.cp_sources == CouplingSources::activated && op_.above_top_mass) {
      for (int64_t k = 0; k < top_k_; ++k) dprobs[token.selected[k]] -= above;
    }
    if (op_.below_source_mass) {
      const float below = factors_.coupling * op_.below_source_mass.as<float>()[t];
      const int32_t* top = op_.top_experts.as<int32_t>() + t * top_k_;
      for (int64_t k = 0; k < top_k_; ++k) dprobs[top[k]] -= below;
    }
  }

  /// Σ_k g_k ∂g_k / routed_scale: what renormalization takes off every ∂g_k.
  float renormalization(const Token& token) const {
    if (!op_.gating.renormalize || factors_.routed_scale == 0) return 0;
    float total = 0;
    // Dividing first makes the weight of an only expert exactly 1 and its gradient exactly 0.
    for (int64_t k = 0; k < top_k_; ++k) total += token.gates[k] / factors_.routed_scale * token.dgates[k];
    return total;
  }

  void through_softmax(const Token& token, float* dprobs) const {
    if (!op_.gating.renormalize) {
      for (int64_t k = 0; k < top_k_; ++k) dprobs[token.selected[k]] += factors_.routed_scale * token.dgates[k];
    }
    const float mean = simd::dot(token.probs, dprobs, experts_);
    simd::for_lanes(experts_, [&](int64_t e, auto lanes) {
      simd::store(token.dlogits + e, simd::load(token.probs + e, lanes) * (simd::load(dprobs + e, lanes) - mean),
                  lanes);
    });
    if (!op_.gating.renormalize) return;
    // Renormalized, g is a softmax over the selected logits alone.
    const float shift = renormalization(token);
    for (int64_t k = 0; k < top_k_; ++k) token.dlogits[token.selected[k]] += token.gates[k] * (token.dgates[k] - shift);
  }

  /// ∂s = (∂p − Σ p ∂p) / Σ s, and ∂q = ∂s s (1 − s); for the gates, ∂q_k = g_k (1 − s_k) (∂g_k − renormalization).
  void through_sigmoid(const Token& token, const float* dprobs, float* scores) const {
    const float total = sigmoid_of_row(token.logits, scores, experts_);
    const float mean = simd::dot(token.probs, dprobs, experts_);
    simd::for_lanes(experts_, [&](int64_t e, auto lanes) {
      const vfloat s = simd::load(scores + e, lanes);
      simd::store(token.dlogits + e, s * (1.0f - s) * (simd::load(dprobs + e, lanes) - mean) / total, lanes);
    });
    const float shift = renormalization(token);
    for (int64_t k = 0; k < top_k_; ++k) {
      const int32_t e = token.selected[k];
      token.dlogits[e] += token.gates[k] * (1.0f - scores[e]) * (token.dgates[k] - shift);
    }
  }

  void add_z(const Token& token, float* exponentials) const {
    const float largest = max_of_row(token.logits, experts_);
    const float total = exp_of_row(token.logits, largest, exponentials, experts_);
    const float factor = static_cast<float>(factors_.z * (largest + std::log(static_cast<double>(total))) / total);
    simd::for_lanes(experts_, [&](int64_t e, auto lanes) {
      simd::store(token.dlogits + e,
                  simd::load(token.dlogits + e, lanes) + factor * simd::load(exponentials + e, lanes), lanes);
    });
  }

  const RouterBackward& op_;
  Factors factors_;
  GroupRows rows_;
  int64_t experts_, top_k_, group_tokens_;
};

}  // namespace

void CpuOps::run(const RouterBackward& op) {
  const auto memory = buffers<Buffers>(op);
  const int64_t tokens = op.logits.dim(0), groups = groups_of(op);
  const GroupRows rows = group_rows(op, groups, memory.groups);
  const TokenBackward backward(op, rows, std::max<int64_t>(1, tokens / groups));
  for_blocks(tokens, token_block, [&](int64_t begin, int64_t end, int64_t) {
    float* buffer = memory.token.mine();
    for (int64_t t = begin; t < end; ++t) backward.run(t, buffer);
  });
}

size_t CpuWorkspaces::bytes(const RouterBackward& op) const {
  return workspace_bytes<Buffers>(op);
}

}  // namespace strand
