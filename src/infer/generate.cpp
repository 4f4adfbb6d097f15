#include "infer/generate.h"

#include <algorithm>
#include <cmath>

#include "core/clock.h"
#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

namespace {
double seconds_of(const std::function<void()>& work) {
  const double start = now();
  work();
  return now() - start;
}

int64_t usable_ids(const Session& session, const GenerationOptions& options) {
  return options.usable_ids > 0 ? options.usable_ids : session.config().model.vocab_size;
}

/// log softmax(logits)[id]
double log_probability(const std::vector<double>& logits, int32_t id) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - largest);
  return logits[static_cast<size_t>(id)] - largest - std::log(sum);
}

/// A text in progress. `tokens` holds the prompt and the new tokens; all of them but the last are in the cache.
struct Text {
  size_t prompt;
  int32_t sequence;  ///< of the cache
  std::vector<int32_t> tokens;
};

class Generation {
 public:
  Generation(Session& session, const std::vector<std::vector<int32_t>>& prompts, const GenerationOptions& options,
             const OnToken& on_token)
      : session_(session), prompts_(prompts), options_(options), on_token_(on_token), results_(prompts.size()) {
    for (int64_t n = session.shape().sequences; n-- > 0;) free_.push_back(static_cast<int32_t>(n));
  }

  std::vector<Continuation> run() {
    while (start_next() || !texts_.empty()) {
      if (!texts_.empty()) decode();
    }
    return std::move(results_);
  }
  const GenerationSpeed& speed() const { return speed_; }

 private:
  /// Computes prompts as long as the cache has room for them. Returns whether it computed any.
  bool start_next() {
    const size_t before = next_;
    while (next_ < prompts_.size() && !free_.empty()) {
      Text text{next_, free_.back(), prompts_[next_]};
      free_.pop_back();
      ++next_;
      std::vector<PlacedToken> tokens;
      for (int32_t id : text.tokens) tokens.push_back({id, text.sequence, static_cast<int32_t>(tokens.size())});
      std::vector<double> logits;
      speed_.prefill_seconds += seconds_of([&] {
        const Tensor out = session_.prediction_buffer().rows(0, 1);
        session_.decoder().prefill(session_.stage(tokens), out);
        logits = download_values(session_.ops(), out);
      });
      speed_.prompt_tokens += static_cast<int64_t>(tokens.size());
      if (advance(text, logits)) texts_.push_back(std::move(text));
    }
    return next_ > before;
  }

  /// Computes one token for every text in progress.
  void decode() {
    const auto rows = static_cast<int64_t>(texts_.size());
    const auto vocab = static_cast<std::ptrdiff_t>(session_.config().model.vocab_size);
    std::vector<PlacedToken> tokens;
    for (const Text& t : texts_)
      tokens.push_back({t.tokens.back(), t.sequence, static_cast<int32_t>(t.tokens.size()) - 1});
    std::vector<double> logits;
    speed_.decode_seconds += seconds_of([&] {
      const Tensor out = session_.prediction_buffer().rows(0, rows);
      session_.decoder().decode(session_.stage(tokens), out);
      logits = download_values(session_.ops(), out);
    });
    speed_.new_tokens += rows;
    std::vector<Text> alive;
    for (std::ptrdiff_t row = 0; row < rows; ++row) {
      Text& text = texts_[static_cast<size_t>(row)];
      if (advance(text, {logits.begin() + row * vocab, logits.begin() + (row + 1) * vocab}))
        alive.push_back(std::move(text));
    }
    texts_ = std::move(alive);
  }

  /// Chooses the next token. Returns false when the text has ended, and its place in the cache is free again.
  bool advance(Text& text, const std::vector<double>& logits) {
    Continuation& result = results_[text.prompt];
    SamplingOptions sampling = options_.sampling;
    sampling.seed += text.prompt;
    const auto added = static_cast<int64_t>(result.ids.size());
    std::vector<double> usable(logits.begin(), logits.begin() + usable_ids(session_, options_));
    const int32_t id = sample_token(std::move(usable), sampling, text.tokens, added);
    if (std::find(options_.stop_ids.begin(), options_.stop_ids.end(), id) != options_.stop_ids.end()) {
      result.stop_id = id;
      return end(text, Ending::stop_id);
    }
    text.tokens.push_back(id);
    result.ids.push_back(id);
    if (options_.log_probs) result.log_probs.push_back(log_probability(logits, id));
    if (on_token_ && on_token_(text.prompt, id) == AfterToken::end_text) return end(text, Ending::caller);
    if (added + 1 == options_.max_tokens) return end(text, Ending::max_tokens);
    if (static_cast<int64_t>(text.tokens.size()) > session_.shape().tokens) return end(text, Ending::context_full);
    return true;
  }

  bool end(const Text& text, Ending ending) {
    results_[text.prompt].ending = ending;
    free_.push_back(text.sequence);
    return false;
  }

  Session& session_;
  const std::vector<std::vector<int32_t>>& prompts_;
  const GenerationOptions& options_;
  const OnToken& on_token_;
  std::vector<Continuation> results_;
  std::vector<Text> texts_;
  std::vector<int32_t> free_;  ///< sequences of the cache, the next one last
  size_t next_ = 0;            ///< prompt
  GenerationSpeed speed_;
};
}  // namespace

std::vector<Continuation> generate(Session& session, const std::vector<std::vector<int32_t>>& prompts,
                                   const GenerationOptions& options, const OnToken& on_token, GenerationSpeed* speed) {
  check(options.sampling);
  require(options.max_tokens > 0, "generation of {} tokens", options.max_tokens);
  const int64_t usable = usable_ids(session, options), vocab = session.config().model.vocab_size;
  require(usable <= vocab, "{} ids are in use, but the model's vocabulary has {}", usable, vocab);
  for (size_t i = 0; i < prompts.size(); ++i) {
    require(!prompts[i].empty(), "prompt {} is empty: generation needs at least one token to start from", i + 1);
    require(static_cast<int64_t>(prompts[i].size()) <= session.shape().tokens,
            "prompt {} has {} tokens, but the context has {} positions (--context makes it longer)", i + 1,
            prompts[i].size(), session.shape().tokens);
    for (const int32_t id : prompts[i])
      require(id >= 0 && id < usable, "prompt {}: token id {}, but {} ids are in use", i + 1, id, usable);
  }
  Generation generation(session, prompts, options, on_token);
  std::vector<Continuation> results = generation.run();
  if (speed) *speed = generation.speed();
  return results;
}

}  // namespace strand
