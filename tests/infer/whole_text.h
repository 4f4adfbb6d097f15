#pragma once
// What a prefix cache must agree with: whole texts, each through the transformer in one pass.
#include <vector>

#include "kernels/staging.h"
#include "tests/model/harness.h"

namespace strand::test {

/// The weights and the selection biases of a model, in another session of the same model.
inline void copy_weights(Session& from, Session& to) {
  Ops& ops = to.ops();
  for (size_t i = 0; i < from.parameters().all().size(); ++i)
    ops(Copy{.from = from.parameters().all()[i].weight, .to = to.parameters().all()[i].weight});
  for (size_t i = 0; i < from.parameters().router_biases().size(); ++i)
    ops(Copy{.from = from.parameters().router_biases()[i].bias, .to = to.parameters().router_biases()[i].bias});
}

class WholeText {
 public:
  /// For texts of at most so many tokens. Weights are undefined until copy_weights.
  WholeText(Ops& ops, const Config& config, int64_t tokens)
      : session_(ops, self_, config, {Purpose::inference, 1, tokens},
                 plan_session(config, {Purpose::inference, 1, tokens}, ops.device().traits())),
        runner_(session_) {}

  Session& session() { return session_; }

  /// Logits [V] of the token that follows the text.
  Values logits_after(const std::vector<int32_t>& text) {
    const StepData data{.tokens = static_cast<int64_t>(text.size()),
                        .micro_batches = {1},
                        .inputs = text,
                        .targets = std::vector<int32_t>(text.size(), 0)};
    Values last;
    runner_.evaluate_with_logits(data, whole_objective(session_.config()), [&](const Tensor& logits) {
      last = download_values(session_.ops(), logits.rows(data.tokens - 1, data.tokens));
    });
    return last;
  }

 private:
  ProcessGrid self_;
  Session session_;
  StepRunner runner_;
};

}  // namespace strand::test
