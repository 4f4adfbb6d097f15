#pragma once
// A model twice, without and with a prefix cache, for the tests of decoding and of generation.
#include <algorithm>
#include <vector>

#include "infer/generate.h"
#include "kernels/staging.h"
#include "tests/infer/whole_text.h"

namespace strand::test {

using Ids = std::vector<int32_t>;

inline constexpr int64_t positions = 24;

/// Two sessions of the same random model: one for whole texts, and one with a prefix cache.
class Twins {
 public:
  Twins(Ops& ops, const Config& config, int64_t sequences, int64_t context = positions)
      : ops_(ops),
        whole_(ops, config, context + 1),
        cached_(ops, self_, config, {Purpose::generation, sequences, context},
                plan_session(config, {Purpose::generation, sequences, context}, ops.device().traits())) {
    TestModel random(ops, config, 1, 1);
    random.randomize(4);
    copy_weights(random.session, whole_.session());
    copy_weights(random.session, cached_);
  }

  /// Logits [V] of the token that follows `text`, by one pass over all of it.
  Values predict(const Ids& text) { return whole_.logits_after(text); }
  /// The same logits, by a pass over a new text in the cache.
  Values prefill(const Ids& text, int32_t sequence) {
    std::vector<PlacedToken> tokens;
    for (int32_t id : text) tokens.push_back({id, sequence, static_cast<int32_t>(tokens.size())});
    const Tensor logits = cached_.prediction_buffer().rows(0, 1);
    cached_.decoder().prefill(cached_.stage(tokens), logits);
    return download_values(ops_, logits);
  }
  /// Logits [rows, V] after one more token of some texts.
  Values decode(const std::vector<PlacedToken>& tokens) {
    const Tensor logits = cached_.prediction_buffer().rows(0, static_cast<int64_t>(tokens.size()));
    cached_.decoder().decode(cached_.stage(tokens), logits);
    return download_values(ops_, logits);
  }
  /// The greedy continuation. Each token comes from one pass over the whole text before it.
  Ids greedy(Ids text, int64_t count) {
    Ids added;
    for (int64_t i = 0; i < count; ++i) {
      const Values logits = predict(text);
      added.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      text.push_back(added.back());
    }
    return added;
  }
  Session& cached() { return cached_; }

 private:
  Ops& ops_;
  WholeText whole_;
  ProcessGrid self_;
  Session cached_;
};

inline Ids random_text(const Config& config, int64_t tokens, uint64_t seed) {
  return random_batch(config, 1, tokens, seed).inputs;
}

inline GenerationOptions greedy_options(int64_t count) {
  return {.sampling = {.temperature = 0}, .max_tokens = count};
}

inline std::vector<Ids> ids_of(const std::vector<Continuation>& texts) {
  std::vector<Ids> ids;
  for (const Continuation& c : texts) ids.push_back(c.ids);
  return ids;
}

}  // namespace strand::test
