// analysis.json of measured models: floors beside numbers, nulls where nothing is, checkpoints of a run compared.
#include <cmath>

#include "analysis/count_json.h"
#include "analysis/measured_model.h"
#include "analysis/uniform_routing.h"
#include "tests/analysis/traces.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// Two layers coupled by a permutation, one expert a token.
Trace coupled(int64_t step) {
  Trace trace = make_trace(400, 2, 4, 20, [step](int64_t t, int64_t layer) -> Experts {
    const auto e = static_cast<uint16_t>(random_bits(static_cast<uint64_t>(step), static_cast<uint64_t>(t)) % 4);
    return {layer == 0 ? e : static_cast<uint16_t>(3 - e)};
  });
  trace.step = step;
  for (size_t t = 0; t < 400; ++t) trace.tokens[t] = static_cast<int32_t>(t % 5);
  return trace;
}
}  // namespace

TEST_CASE("Numbers have six digits, and what is no number is null") {
  CHECK(json_number(0.123456789).dump() == "0.123457");
  CHECK(json_number(1234567.0).dump() == "1234570.0");
  CHECK(json_number(-0.0).dump() == "0.0");
  CHECK(json_number(NAN).is_null());
  CHECK(json_number(INFINITY).is_null());
  CHECK(json_number(std::optional<double>{}).is_null());
}

TEST_CASE("Coupling stands beside its shuffled and its uniform floor") {
  const Json coupling = coupling_json(coupled(1));
  REQUIRE(coupling["pairs"].size() == 1);
  const Json& pair = coupling["pairs"][0];
  CHECK(pair["kappa"] == 1.0);
  CHECK(pair["matched"] == Json({3, 2, 1, 0}));
  CHECK(pair["conditional"][0] == Json({0.0, 0.0, 0.0, 1.0}));
  // 400 tokens over 16 cells of 25 ± 5: the best of 24 permutations is near 0.25 + 2 · 5 · 2 / 400.
  CHECK(pair["shuffled"]["kappa"].get<double>() > 0.25);
  CHECK(pair["shuffled"]["kappa"].get<double>() < 0.36);
  CHECK(coupling["uniform"]["kappa"].get<double>() == Approx(0.29).margin(0.04));
  CHECK(coupling["chance"]["conditional"] == 0.25);
}

TEST_CASE("What does not exist is null") {
  const Trace trace = coupled(1);
  CHECK(coactivation_json(trace).is_null());
  CHECK(clusters_json(trace, {}).is_null());
  Trace rare = trace;
  for (size_t t = 0; t < rare.tokens.size(); ++t) rare.tokens[t] = static_cast<int32_t>(t);
  CHECK(vocabulary_json(rare, {})["input"]["ids"] == 0);
  CHECK(vocabulary_json(rare, {})["input"]["specialization"][0].is_null());
  CHECK(vocabulary_json(rare, {})["context_independence"][1].is_null());
  Trace one_sequence = trace;
  one_sequence.sequence_length = 400;
  one_sequence.domains = {{"text", 1}};
  CHECK(placement_json(one_sequence, 8).empty());
  CHECK(placement_json(trace, 8).size() == 2);
  const Json domains = domains_json(trace, {4.5});
  CHECK(domains["information"].is_null());
  CHECK(domains["by_domain"][0]["ce"] == 4.5);
  CHECK(vocabulary_json(trace, {})["token_lists"][0]["experts"][0][0]["piece"].is_null());
}

TEST_CASE("Uniform routing is at the floors that stand beside it") {
  Trace u = uniform_routing(20000, 3, 8, 2, 77);
  u.sequence_length = 100;
  u.domains = {{"a", 100}, {"b", 100}};
  for (size_t t = 0; t < u.tokens.size(); ++t)
    u.tokens[t] = u.next[t] = u.predicted[t] = static_cast<int32_t>(random_bits(6, t) % 50);
  const Json pair = coupling_json(u)["pairs"][0];
  for (const auto& [name, floor] : pair["shuffled"].items()) {
    INFO(name);
    CHECK(pair[name].get<double>() == Approx(floor.get<double>()).epsilon(0.1).margin(0.005));
  }
  const Json load = load_json(u);
  CHECK(load["cv"][0].get<double>() < 3 * load["uniform"]["cv"].get<double>());
  CHECK(load["ranks"][0]["max_load"][0].get<double>() < 1.05);
  const Json repeats = repetition_json(u);
  CHECK(repeats["top_1"][1].get<double>() == Approx(repeats["chance"]["top_1"].get<double>()).margin(0.01));
  CHECK(repeats["any"][1].get<double>() == Approx(repeats["chance"]["any"].get<double>()).margin(0.015));
  CHECK(repeats["any_shuffled"][1].get<double>() == Approx(repeats["chance"]["any"].get<double>()).margin(0.015));
  const Json words = vocabulary_json(u, [](int32_t id) { return "piece " + std::to_string(id); });
  CHECK(words["input"]["ids"] == 50);
  CHECK(words["input"]["weighted"][0].get<double>() ==
        Approx(words["input"]["weighted_shuffled"][0].get<double>()).margin(0.01));
  CHECK(words["token_lists"].size() == 3);
  const Json domains = domains_json(u, {1, 2});
  CHECK(domains["information"][0].get<double>() < 5 * domains["information_shuffled"][0].get<double>());
  CHECK(coactivation_json(u)["peak"][0].get<double>() ==
        Approx(coactivation_json(u)["uniform"]["peak"].get<double>()).margin(0.01));
}

TEST_CASE("Checkpoints of one run are compared with the next and with the last, others are not") {
  std::vector<Trace> traces = {coupled(1), coupled(1), coupled(3), coupled(2)};
  traces[1].step = 2;
  Json analysis;
  add_stability(analysis, traces, {{0, 1, 2}, {3}});
  REQUIRE(analysis["stability"].size() == 2);
  CHECK(analysis["stability"][0]["steps"] == Json({1, 2}));
  CHECK(analysis["stability"][0]["top_1"] == Json({1.0, 1.0}));
  CHECK(analysis["stability"][1]["from"] == 1);
  CHECK(analysis["stability"][1]["to"] == 2);
  CHECK(analysis["stability"][1]["top_1"][0].get<double>() == Approx(0.25).margin(0.09));  // four deviations of 0.022
  CHECK(analysis["stability"][1]["chance"]["top_1"] == 0.25);
  CHECK(analysis["stability"][0]["top_1_shuffled"][0].get<double>() == Approx(0.25).margin(0.09));
  CHECK(analysis["saturation"][1]["top_k_shuffled"][1].get<double>() == Approx(0.25).margin(0.09));
  REQUIRE(analysis["saturation"].size() == 2);
  CHECK(analysis["saturation"][0]["of"] == 2);
  CHECK(analysis["saturation"][0]["top_k"] == analysis["stability"][1]["top_k"]);
}

TEST_CASE("Clusters that follow the router agree with it, and with each other") {
  constexpr int64_t tokens = 200, experts = 4;
  const Trace trace = coupled(1);
  Collected collected;
  for (int64_t layer = 0; layer < 2; ++layer) {
    CollectedLayer& out = collected.layers.emplace_back();
    out.inputs.width = experts;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t e = 0; e < experts; ++e) out.inputs.values.push_back(trace.layer(layer).top_1(t) == e ? 1.0f : 0.0f);
  }
  for (int64_t t = 0; t < tokens; ++t) collected.clustered.push_back(t);
  const Json clusters = clusters_json(trace, collected);
  CHECK(clusters["tokens"] == 200);
  CHECK(clusters["pairs"][0]["unbalanced"] == 1.0);
  CHECK(clusters["pairs"][0]["router"] == 1.0);
  CHECK(clusters["pairs"][0]["balanced"].get<double>() > 0.8);
  CHECK(clusters["agreement"][0].get<double>() > 0.8);
  CHECK(clusters["agreement_shuffled"][0].get<double>() < 0.4);
  CHECK(clusters["uniform"].get<double>() < 0.4);
}
