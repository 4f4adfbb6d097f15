// Decoding with the prefix cache against the whole text through the transformer, for every option of the model; and
// batches of texts.
#include <algorithm>
#include <cmath>
#include <functional>

#include "infer/generate.h"
#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/infer/whole_text.h"

using namespace strand;
using namespace strand::test;

namespace {
using Ids = std::vector<int32_t>;

struct Variant {
  const char* name;
  std::function<void(Config&)> change;
};
const Variant variants[] = {
    {"GQA, softmax", [](Config&) {}},
    {"one key/value head, renormalized, scaled",
     [](Config& c) {
       c.model.num_kv_heads = 1;
       c.moe.renormalize = true;
       c.moe.routed_scale = 1.7;
     }},
    {"qk_norm head, partial rope, tied",
     [](Config& c) {
       c.model.qk_norm = QkNorm::head;
       c.model.rope_fraction = 2.0 / 3;
       c.model.tied_embeddings = true;
     }},
    {"qk_norm full, no rope, every head its own keys",
     [](Config& c) {
       c.model.qk_norm = QkNorm::full;
       c.model.rope_fraction = 0;
       c.model.num_kv_heads = c.model.num_heads;
     }},
    {"YaRN, partial rope",
     [](Config& c) {
       c.model.head_dim = 8;
       c.model.rope_fraction = 0.75;
       use_yarn(c);
     }},
    {"latent attention", [](Config& c) { use_latent_attention(c, 0); }},
    {"latent attention, queries from a latent, YaRN",
     [](Config& c) {
       use_latent_attention(c, 8);
       use_yarn(c);
     }},
    {"dense first layer, shared experts",
     [](Config& c) {
       c.model.dense_layers = 1;
       c.model.dense_ffn = 14;
       c.model.num_layers = 3;
       c.moe.shared_experts = 2;
     }},
    {"sigmoid, bias, top 1",
     [](Config& c) {
       c.moe.score = RouterScore::sigmoid;
       c.moe.bias_rate = 0.001;
       c.moe.top_k = 1;
     }},
    {"sigmoid, bias, renormalized, all dense but one, coupling by batch",
     [](Config& c) {
       c.moe.score = RouterScore::sigmoid;
       c.moe.bias_rate = 0.001;
       c.moe.renormalize = true;
       c.model.dense_layers = 1;
       c.model.dense_ffn = 10;
       c.losses.cp_paths = CouplingPaths::batch;
     }},
};

Config config_of(const Variant& variant, Precision precision) {
  Config config = tiny_config(precision);
  variant.change(config);
  return config;
}

constexpr int64_t positions = 24;

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

Ids random_text(const Config& config, int64_t tokens, uint64_t seed) {
  return random_batch(config, 1, tokens, seed).inputs;
}

/// Three texts of different lengths, from prompts of different lengths, decoded together; each row of logits against a
/// whole pass. Returns the largest relative error.
double worst_difference(Ops& ops, const Config& config) {
  Twins twins(ops, config, 3);
  const std::vector<int32_t> slot = {2, 0, 1};
  const size_t prompt[] = {1, 7, 16};
  std::vector<Ids> texts;
  double worst = 0;
  for (size_t i = 0; i < 3; ++i) {
    const Ids all = random_text(config, positions, i + 1);
    texts.push_back(all);
    const Ids begin(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(prompt[i]));
    worst = std::max(worst, relative_error(twins.prefill(begin, slot[i]), twins.predict(begin)));
  }
  for (size_t step = 0; step < 8; ++step) {
    std::vector<PlacedToken> tokens;
    Values expected;
    for (size_t i = 0; i < 3; ++i) {
      const size_t at = prompt[i] + step;
      if (step % 3 == 2 && i == 1) continue;  // now and then a text is left out, and goes on later
      const size_t place = i == 1 ? at - step / 3 : at;
      tokens.push_back({texts[i][place], slot[i], static_cast<int32_t>(place)});
      const Values logits =
          twins.predict(Ids(texts[i].begin(), texts[i].begin() + static_cast<std::ptrdiff_t>(place) + 1));
      expected.insert(expected.end(), logits.begin(), logits.end());
    }
    worst = std::max(worst, relative_error(twins.decode(tokens), expected));
  }
  return worst;
}

GenerationOptions greedy_options(int64_t count) {
  return {.sampling = {.temperature = 0}, .max_tokens = count};
}

std::vector<Ids> ids_of(const std::vector<Continuation>& texts) {
  std::vector<Ids> ids;
  for (const Continuation& c : texts) ids.push_back(c.ids);
  return ids;
}
}  // namespace

// The same sums in double precision, some in another order: 1e-12 is a thousand times what that makes of these sizes.
TEST_CASE("cached logits are those of whole passes, on the reference") {
  ReferenceOps ops;
  for (const Variant& variant : variants) {
    INFO(variant.name);
    CHECK(worst_difference(ops, config_of(variant, Precision::fp64)) < 1e-12);
  }
}

TEST_CASE("cached logits are those of whole passes, on the CPU") {
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  for (const Variant& variant : variants) {
    INFO(variant.name);
    CHECK(worst_difference(ops, config_of(variant, Precision::fp32)) < 2e-5);
  }
}

// bf16 keeps 8 bits: a rounding is 0.4 %, and several lie between an embedding and a logit. Where two experts are
// nearly even, another rounding chooses another expert, so only a model that uses all of them can be compared. With
// latent attention the two passes round different numbers: keys and values in one, queries in the space of latents and
// what they found there in the other. Their errors are independent and those of scores larger, as sums over latents
// cancel; both forms agree to 1e-12 in double precision (above).
TEST_CASE("cached logits are close to those of whole passes, in bf16") {
  const std::unique_ptr<Ops> cpu_ops = make_cpu_ops();
  Ops& ops = *cpu_ops;
  for (const Variant& variant : variants) {
    Config config = config_of(variant, Precision::bf16);
    config.moe.top_k = config.moe.num_experts;
    INFO(variant.name);
    CHECK(worst_difference(ops, config) < (config.model.latent() ? 0.12 : 0.04));
  }
}

TEST_CASE("greedy ids are those of whole passes, for prompts of any lengths together") {
  ReferenceOps reference;
  const std::unique_ptr<Ops> cpu_backend = make_cpu_ops();
  Ops& cpu = *cpu_backend;
  for (const Variant& variant : variants) {
    for (Ops* ops : {static_cast<Ops*>(&reference), static_cast<Ops*>(&cpu)}) {
      const Config config = config_of(variant, ops == &cpu ? Precision::fp32 : Precision::fp64);
      INFO(variant.name << " on " << ops->name());
      Twins twins(*ops, config, 2);  // fewer places than prompts: the third waits for one
      const std::vector<Ids> prompts = {random_text(config, 3, 5), random_text(config, 11, 6),
                                        random_text(config, 1, 7)};
      std::vector<Ids> expected;
      for (const Ids& prompt : prompts) expected.push_back(twins.greedy(prompt, 10));
      CHECK(ids_of(generate(twins.cached(), prompts, greedy_options(10))) == expected);
    }
  }
}

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
