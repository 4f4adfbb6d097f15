// Generation of batches of texts: where texts end, which ids are drawn, and what is told meanwhile.
#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/infer/twins.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("texts end at the stop id, after max_tokens, or when the context is full") {
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  const Config config = tiny_config(Precision::fp32);
  Twins twins(ops, config, 2, 12);
  const Ids prompt = random_text(config, 4, 5);
  const Ids all = twins.greedy(prompt, 9);
  const auto run = [&](GenerationOptions options) { return generate(twins.cached(), {prompt}, options)[0]; };

  SECTION("the last token comes from a full cache: 12 - 4 + 1 of them") {
    const Continuation full = run(greedy_options(100));
    CHECK(full.ending == Ending::context_full);
    CHECK(full.ids == all);
    const Continuation exact = run(greedy_options(9));
    CHECK(exact.ending == Ending::max_tokens);
    CHECK(exact.ids == all);
  }
  SECTION("max_tokens") {
    const Continuation one = run(greedy_options(1));
    CHECK(one.ids == Ids{all[0]});
    CHECK(one.ending == Ending::max_tokens);
  }
  SECTION("the stop id is not part of the text") {
    for (int32_t stop = 0; stop < config.model.vocab_size; ++stop) {
      GenerationOptions options = greedy_options(9);
      options.stop_ids = {99, stop};
      const auto first = std::find(all.begin(), all.end(), stop);
      const Continuation text = run(options);
      CHECK(text.ids == Ids(all.begin(), first));
      CHECK(text.ending == (first == all.end() ? Ending::max_tokens : Ending::stop_id));
      CHECK(text.stop_id == (first == all.end() ? -1 : stop));
    }
  }
  SECTION("of several stop ids, the first that comes ends the text") {
    GenerationOptions options = greedy_options(9);
    options.stop_ids = {all[4], all[2]};
    const Continuation text = run(options);
    const auto first = std::find_first_of(all.begin(), all.end(), options.stop_ids.begin(), options.stop_ids.end());
    CHECK(text.ids == Ids(all.begin(), first));
    CHECK(text.stop_id == *first);
  }
  SECTION("the caller ends a text with the token that it was told") {
    size_t told = 0;
    const Continuation text = generate(twins.cached(), {prompt}, greedy_options(9), [&](size_t, int32_t) {
      return ++told == 3 ? AfterToken::end_text : AfterToken::go_on;
    })[0];
    CHECK(text.ids == Ids(all.begin(), all.begin() + 3));
    CHECK(text.ending == Ending::caller);
  }
  SECTION("a prompt may fill the cache, not overflow it") {
    const Ids full = random_text(config, 12, 5), more = random_text(config, 13, 5);
    const Continuation text = generate(twins.cached(), {full}, greedy_options(5))[0];
    CHECK(text.ids == twins.greedy(full, 1));
    CHECK(text.ending == Ending::context_full);
    CHECK_THROWS_WITH(generate(twins.cached(), {prompt, more}, greedy_options(5)),
                      Catch::Contains("prompt 2 has 13 tokens") && Catch::Contains("--context"));
    CHECK_THROWS_WITH(generate(twins.cached(), {prompt, {}}, greedy_options(5)), Catch::Contains("prompt 2 is empty"));
    CHECK_THROWS_WITH(generate(twins.cached(), {{99}}, greedy_options(5)), Catch::Contains("token id 99"));
  }
}

// As for a tokenizer with fewer pieces than the model has rows.
TEST_CASE("ids that are not in use are never drawn, and no prompt has them") {
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  const Config config = tiny_config(Precision::fp32);
  Twins twins(ops, config, 2);
  const Ids prompt = {1, 3, 0, 2};
  bool matters = false;
  for (int32_t usable = 4; usable <= config.model.vocab_size; ++usable) {
    GenerationOptions options = greedy_options(12);
    options.usable_ids = usable;
    Ids text = prompt, expected;
    for (int i = 0; i < 12; ++i) {
      const Values logits = twins.predict(text);
      const auto end = logits.begin() + usable;
      matters |= std::max_element(logits.begin(), logits.end()) >= end;
      expected.push_back(static_cast<int32_t>(std::max_element(logits.begin(), end) - logits.begin()));
      text.push_back(expected.back());
    }
    CHECK(generate(twins.cached(), {prompt}, options)[0].ids == expected);
    options.sampling.temperature = 100;  // all ids are nearly as likely
    const std::vector<Ids> drawn = ids_of(generate(twins.cached(), {prompt, prompt}, options));
    for (const int32_t id : drawn[1]) CHECK(id < usable);
  }
  CHECK(matters);
  GenerationOptions options = greedy_options(1);
  options.usable_ids = 4;
  CHECK_THROWS_WITH(generate(twins.cached(), {prompt, {3, 4}}, options),
                    Catch::Contains("prompt 2") && Catch::Contains("token id 4") && Catch::Contains("4 ids"));
  options.usable_ids = config.model.vocab_size + 1;
  CHECK_THROWS_WITH(generate(twins.cached(), {prompt}, options), Catch::Contains("18 ids"));
}

// Expected: the largest logit after that of each token of the text so far was divided, or multiplied, by the penalty.
TEST_CASE("the repetition penalty is for the tokens of the prompt and for the new ones") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  Twins twins(ops, config, 2);
  GenerationOptions options = greedy_options(6);
  options.sampling.repetition_penalty = 3;
  const auto largest = [&](Values logits, const Ids& seen) {
    for (const int32_t id : std::set<int32_t>(seen.begin(), seen.end())) {
      double& logit = logits[static_cast<size_t>(id)];
      logit = logit > 0 ? logit / 3 : logit * 3;
    }
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  bool prompt_matters = false;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    const Ids prompt = random_text(config, 5, seed);
    Ids text = prompt, expected;
    for (int i = 0; i < 6; ++i) {
      const Values logits = twins.predict(text);
      const int32_t id = largest(logits, text);
      prompt_matters |= largest(logits, expected) != id;
      expected.push_back(id);
      text.push_back(id);
    }
    CHECK(generate(twins.cached(), {prompt}, options)[0].ids == expected);
  }
  CHECK(prompt_matters);
}

TEST_CASE("tokens are told as they are chosen, and counted") {
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  const Config config = tiny_config(Precision::fp32);
  Twins twins(ops, config, 3);
  const std::vector<Ids> prompts = {random_text(config, 3, 5), random_text(config, 8, 6), random_text(config, 5, 7)};
  std::vector<Ids> told(3);
  GenerationSpeed speed;
  const auto texts = generate(
      twins.cached(), prompts, greedy_options(6),
      [&](size_t prompt, int32_t id) {
        told[prompt].push_back(id);
        return AfterToken::go_on;
      },
      &speed);
  CHECK(told == ids_of(texts));
  CHECK(speed.prompt_tokens == 16);
  CHECK(speed.new_tokens == 15);  // the first of each came with its prompt
}

// Whatever is drawn: over the whole vocabulary, also where part of it is not in use, before temperature and filters.
TEST_CASE("log-probabilities are those of the model for the whole text") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  Twins twins(ops, config, 2);
  const std::vector<Ids> prompts = {{1, 3, 0, 2}, {5, 9}};
  GenerationOptions options{.sampling = {.temperature = 1.7, .top_k = 9, .repetition_penalty = 1.3, .seed = 4},
                            .max_tokens = 8,
                            .log_probs = true,
                            .usable_ids = config.model.vocab_size - 3};
  const std::vector<Continuation> texts = generate(twins.cached(), prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    REQUIRE(texts[i].log_probs.size() == texts[i].ids.size());
    Ids text = prompts[i];
    for (size_t t = 0; t < texts[i].ids.size(); ++t) {
      const Values logits = twins.predict(text);
      double sum = 0;
      for (const double logit : logits) sum += std::exp(logit);
      const double expected = logits[static_cast<size_t>(texts[i].ids[t])] - std::log(sum);
      CHECK(texts[i].log_probs[t] == Approx(expected).margin(1e-9));  // sums of fp64 in another order
      text.push_back(texts[i].ids[t]);
    }
  }
  options.log_probs = false;
  CHECK(generate(twins.cached(), prompts, options)[0].log_probs.empty());
}

// On the reference, rows of a batch are computed one by one: the same bits alone and in company.
TEST_CASE("a sampled text depends on its prompt and seed, not on its company") {
  ReferenceOps ops;
  const Config config = tiny_config(Precision::fp64);
  Twins twins(ops, config, 2);
  const std::vector<Ids> prompts = {random_text(config, 3, 5), random_text(config, 8, 6), random_text(config, 5, 7)};
  GenerationOptions options{
      .sampling = {.temperature = 1.5, .top_k = 9, .top_p = 0.95, .min_p = 0.01, .repetition_penalty = 1.1, .seed = 20},
      .max_tokens = 12};
  const std::vector<Ids> together = ids_of(generate(twins.cached(), prompts, options));
  for (size_t i = 0; i < prompts.size(); ++i) {
    GenerationOptions alone = options;
    alone.sampling.seed = 20 + i;
    CHECK(ids_of(generate(twins.cached(), {prompts[i]}, alone))[0] == together[i]);
  }
  const std::vector<Ids> same = ids_of(generate(twins.cached(), {prompts[0], prompts[0]}, options));
  CHECK(same[0] != same[1]);
}

TEST_CASE("the plan of a generation session is what it takes, and the cache is most of its growth") {
  Config config = tiny_config(Precision::bf16);
  // Keys and values, 2 heads of 6 numbers; or a latent of 7 and a rotated key of 6.
  double numbers_a_token = 2 * 2 * 6;
  SECTION("attention of heads") {}
  SECTION("latent attention") {
    use_latent_attention(config, 8);
    numbers_a_token = 7 + 6;
  }
  const auto model_bytes = [&](int64_t sequences, int64_t tokens) {
    return static_cast<double>(
        plan_session(config, {Purpose::generation, sequences, tokens}, {.row_alignment = 16}).model.bytes);
  };
  // 2 layers, numbers of 2 bytes; besides, a rotary row of 6 numbers of 4 bytes and an id and two places of a new
  // token.
  const double growth = 2 * numbers_a_token * 2 * 64.0 * 1000 + (6 + 3) * 4 * 1000;
  CHECK(model_bytes(64, 1100) - model_bytes(64, 100) == Approx(growth).epsilon(0.001));
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  ProcessGrid self;
  const SessionShape three{Purpose::generation, 3, 10}, passes{Purpose::inference, 3, 10};
  Session session(ops, self, config, three, plan_session(config, three, ops.device().traits()));
  CHECK_THROWS_WITH(session.transformer(), Catch::Contains("generation"));
  const std::vector<PlacedToken> outside = {{0, 3, 0}}, beyond = {{0, 0, 10}}, none;
  CHECK_THROWS_WITH(session.stage(outside), Catch::Contains("sequence 3"));
  CHECK_THROWS_WITH(session.stage(beyond), Catch::Contains("position 10"));
  CHECK_THROWS(session.stage(none));
  Session whole(ops, self, config, passes, plan_session(config, passes, ops.device().traits()));
  CHECK_THROWS_WITH(whole.decoder(), Catch::Contains("not set up for generation"));
}
