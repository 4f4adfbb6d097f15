// Decoding with the prefix cache against the whole text through the transformer, for every option of the model.
#include <algorithm>
#include <cmath>
#include <functional>

#include "kernels/cpu/backend.h"
#include "kernels/reference/reference_ops.h"
#include "tests/catch.h"
#include "tests/infer/twins.h"

using namespace strand;
using namespace strand::test;

namespace {
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
