// Log-likelihoods of continuations: the contexts that requests share, against whole passes of the transformer, one
// request after the other.
#include <algorithm>
#include <cmath>

#include "infer/score.h"
#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/infer/whole_text.h"

using namespace strand;
using namespace strand::test;

namespace {
using Ids = std::vector<int32_t>;
constexpr int64_t positions = 24;

/// Two sessions of the same random model: for whole texts, and for scoring with a cache of so many sequences.
class Twins {
 public:
  Twins(Ops& ops, const Config& config, int64_t sequences)
      : whole_(ops, config, positions),
        scoring_(ops, self_, config, {Purpose::scoring, sequences, positions},
                 plan_session(config, {Purpose::scoring, sequences, positions}, ops.device().traits())) {
    TestModel random(ops, config, 1, 1);
    random.randomize(4);
    copy_weights(random.session, whole_.session());
    copy_weights(random.session, scoring_);
  }

  /// By the definition: one pass of the transformer for each token that is predicted.
  TokenScore whole(const TokenRequest& request) {
    Ids text = request.context;
    TokenScore result{0, true};
    for (const int32_t id : request.continuation) {
      const Values logits = whole_.logits_after(text);
      double sum = 0;
      for (const double x : logits) sum += std::exp(x);
      result.log_likelihood += logits[static_cast<size_t>(id)] - std::log(sum);
      for (size_t v = 0; v < logits.size(); ++v) {
        const bool better = logits[v] > logits[static_cast<size_t>(id)];
        const bool before = logits[v] == logits[static_cast<size_t>(id)] && v < static_cast<size_t>(id);
        if (better || before) result.greedy = false;
      }
      text.push_back(id);
    }
    return result;
  }
  Session& scoring() { return scoring_; }

 private:
  WholeText whole_;
  ProcessGrid self_;
  Session scoring_;
};

Ids random_text(const Config& config, int64_t tokens, uint64_t seed) {
  return random_batch(config, 1, tokens, seed).inputs;
}

/// Questions of several lengths, whose answers have one to nine tokens; some share their context, and one context is
/// the beginning of another. Not in the order in which they are scored.
std::vector<TokenRequest> requests_for(const Config& config) {
  const Ids a = random_text(config, 5, 1), b = random_text(config, 15, 2), c = {3};
  const Ids beginning(b.begin(), b.begin() + 6);
  std::vector<TokenRequest> requests;
  uint64_t seed = 10;
  for (const int64_t length : {4, 1, 7, 9, 1}) requests.push_back({a, random_text(config, length, ++seed)});
  for (const int64_t length : {1, 1, 1}) requests.push_back({beginning, random_text(config, length, ++seed)});
  for (const int64_t length : {3, 9, 2}) requests.push_back({b, random_text(config, length, ++seed)});
  requests.push_back({a, random_text(config, 9, ++seed)});
  requests.push_back({c, random_text(config, 24, ++seed)});  // as long as the cache
  requests.push_back({b, requests[8].continuation});         // twice the same
  return requests;
}

/// Requests whose tokens are all the most likely ones, next to those that are not.
void add_greedy(Twins& twins, std::vector<TokenRequest>& requests, int64_t vocab) {
  TokenRequest request{{2, 5, 1}, {}};
  for (int i = 0; i < 4; ++i) {
    for (int32_t id = 0; id < vocab; ++id) {
      TokenRequest next = request;
      next.continuation.push_back(id);
      if (!twins.whole(next).greedy) continue;
      request = next;
      break;
    }
    requests.push_back(request);
  }
}

/// The largest difference of a log-likelihood from whole passes.
double worst_difference(Ops& ops, const Config& config, int64_t sequences, Contexts contexts) {
  Twins twins(ops, config, sequences);
  std::vector<TokenRequest> requests = requests_for(config);
  add_greedy(twins, requests, config.model.vocab_size);
  ScoringProgress told;
  const ScoringOptions options{.contexts = contexts, .on_progress = [&](const ScoringProgress& now) {
                                 CHECK(now.requests > told.requests);
                                 CHECK(now.tokens > told.tokens);
                                 told = now;
                               }};
  const std::vector<TokenScore> scores = score(twins.scoring(), requests, options);
  CHECK(told.requests == requests.size());
  CHECK(told.all_requests == requests.size());
  CHECK(told.tokens == told.all_tokens);
  REQUIRE(scores.size() == requests.size());
  double worst = 0;
  size_t greedy = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const TokenScore expected = twins.whole(requests[i]);
    worst = std::max(worst, std::abs(scores[i].log_likelihood - expected.log_likelihood));
    CHECK(scores[i].greedy == expected.greedy);
    greedy += scores[i].greedy;
  }
  CHECK(greedy >= 4);
  CHECK(greedy < requests.size());
  return worst;
}

std::vector<Config> configs(Precision precision) {
  std::vector<Config> all(6, tiny_config(precision));
  all[1].model.rope_fraction = 0;
  all[1].model.qk_norm = QkNorm::head;
  all[1].model.num_kv_heads = 1;
  all[2].model.dense_layers = 1;
  all[2].model.dense_ffn = 14;
  all[2].model.num_layers = 3;
  all[2].moe.shared_experts = 2;
  all[2].moe.score = RouterScore::sigmoid;
  all[2].moe.bias_rate = 0.001;
  use_latent_attention(all[3], 0);
  use_latent_attention(all[4], 8);
  use_yarn(all[4]);
  all[5].model.head_dim = 8;
  all[5].model.rope_fraction = 0.75;
  use_yarn(all[5]);
  all[5].moe.num_experts = 6;
  all[5].moe.groups = 3;
  all[5].moe.groups_kept = 2;
  all[5].moe.renormalize = true;
  all[5].moe.routed_scale = 1.7;
  return all;
}
}  // namespace

// Sums of up to 24 terms of size 10 in double precision: 1e-11 is a thousand times what rounding makes of them.
TEST_CASE("scores are those of whole passes, on the reference") {
  ReferenceOps ops;
  for (const Config& config : configs(Precision::fp64)) {
    for (const int64_t sequences : {1, 3, 64}) {
      INFO(sequences << " sequences in the cache");
      CHECK(worst_difference(ops, config, sequences, Contexts::shared) < 1e-11);
      CHECK(worst_difference(ops, config, sequences, Contexts::apart) < 1e-11);
    }
  }
}

// Single precision keeps 24 bits: relative errors of 1e-5 in logits of size 10, over up to 24 tokens.
TEST_CASE("scores are those of whole passes to single precision, on the CPU") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  for (const Config& config : configs(Precision::fp32)) {
    for (const int64_t sequences : {1, 5, 64}) {
      CHECK(worst_difference(*ops, config, sequences, Contexts::shared) < 2e-3);
      CHECK(worst_difference(*ops, config, sequences, Contexts::apart) < 2e-3);
    }
  }
}

TEST_CASE("sharing a context changes a score in bf16 no more than bf16 rounds") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  Config config = tiny_config(Precision::bf16);
  config.moe.top_k = config.moe.num_experts;  // where two experts are nearly even, rounding would choose another one
  Twins twins(*ops, config, 8);
  const std::vector<TokenRequest> requests = requests_for(config);
  const std::vector<TokenScore> shared = score(twins.scoring(), requests);
  const std::vector<TokenScore> apart = score(twins.scoring(), requests, {.contexts = Contexts::apart});
  for (size_t i = 0; i < requests.size(); ++i) {
    // Logits of size 10 with 8 bits, several roundings each.
    const double tolerance = 0.3 * static_cast<double>(requests[i].continuation.size());
    CHECK(std::abs(shared[i].log_likelihood - apart[i].log_likelihood) < tolerance);
  }
}

// Logits are computed for so many rows at a time. The same requests in small lots never reach that number.
TEST_CASE("scores do not depend on how many predictions there are at a time") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  Config config = tiny_config(Precision::fp32);
  config.model.vocab_size = 20000;
  Twins twins(*ops, config, 64);
  const int64_t most = twins.scoring().prediction_buffer().dim(0);
  REQUIRE(most < 64 * positions / 4);  // or nothing of this is tested
  constexpr int64_t each = 20;         // predictions of a request
  for (const int64_t count : {most - 1, most, most + 1, 5 * most / 2}) {
    std::vector<TokenRequest> requests;
    for (int64_t left = count; left > 0; left -= each) {
      const auto seed = static_cast<uint64_t>(count + left);
      requests.push_back({random_text(config, 3, seed), random_text(config, std::min(left, each), seed + 1)});
    }
    const std::vector<TokenScore> together = score(twins.scoring(), requests);
    INFO(count << " predictions, of which " << most << " are computed at a time");
    for (size_t i = 0; i < requests.size(); ++i) {
      const TokenScore alone = score(twins.scoring(), {&requests[i], 1})[0];
      // Products of other shapes add in another order: 20 logits of size 10 in single precision.
      CHECK(together[i].log_likelihood == Approx(alone.log_likelihood).epsilon(1e-5));
      CHECK(together[i].greedy == alone.greedy);
    }
  }
}

TEST_CASE("a session for scoring is as long as the longest request and as wide as its tokens allow") {
  const std::vector<TokenRequest> requests = {{{1, 2, 3}, {4}}, {{1}, {2, 3, 4, 5, 6, 7, 8}}};
  const SessionShape shape = scoring_shape(requests, 100);
  CHECK(shape.purpose == Purpose::scoring);
  CHECK(shape.tokens == 7);  // the last token is not read
  CHECK(shape.sequences == 14);
  CHECK(scoring_shape(requests, 3).sequences == 1);
  CHECK(scoring_shape({}, 3).tokens == 1);
}

TEST_CASE("requests that cannot be scored are named") {
  const std::unique_ptr<Ops> ops = make_cpu_ops();
  const Config config = tiny_config(Precision::fp32);
  Twins twins(*ops, config, 2);
  const auto scores = [&](const std::vector<TokenRequest>& requests) { return score(twins.scoring(), requests); };
  CHECK(scores({}).empty());
  CHECK_THROWS_WITH(scores({{{1}, {2}}, {{}, {2}}}), Catch::Contains("request 2: the context has no token"));
  CHECK_THROWS_WITH(scores({{{1}, {}}}), Catch::Contains("request 1: the continuation has no token"));
  CHECK_THROWS_WITH(scores({{{1}, Ids(25, 1)}}), Catch::Contains("25 tokens") && Catch::Contains("24 positions"));
  CHECK_THROWS_WITH(scores({{{1}, {17}}}), Catch::Contains("token id 17"));
  CHECK_THROWS_WITH(scores({{{-1}, {1}}}), Catch::Contains("token id -1"));
  CHECK_THROWS_WITH(twins.scoring().transformer(), Catch::Contains("scoring"));
}
