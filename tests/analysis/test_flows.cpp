// Flows of tokens from layer to layer, by domain: counted by hand and by plain code.
#include "analysis/count_json.h"
#include "analysis/flows.h"
#include "tests/analysis/traces.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("Flows go between the first, the middle and the last layer") {
  const auto layers = [](int64_t count) { return flow_layers(uneven_trace(20, count, 4, 1, 10, 1)); };
  CHECK(layers(2) == std::vector<int64_t>{0, 1});
  CHECK(layers(3) == std::vector<int64_t>{0, 1, 2});
  CHECK(layers(7) == std::vector<int64_t>{0, 3, 6});
  CHECK(flows_json(uneven_trace(20, 1, 4, 1, 10, 1)).is_null());
}

TEST_CASE("A domain whose tokens keep their way has all information, one whose tokens scatter has none") {
  // Tokens 0 to 399: expert e goes to 3 − e and back. Tokens 400 to 799: each pair of experts equally often.
  Trace trace = make_trace(800, 3, 4, 20, [](int64_t t, int64_t layer) -> Experts {
    const auto e = static_cast<uint16_t>(t % 4);
    if (t < 400) return {layer == 1 ? static_cast<uint16_t>(3 - e) : e};
    return {static_cast<uint16_t>(layer == 0 ? e : layer == 1 ? t / 4 % 4 : t / 16 % 4)};
  });
  trace.domains = {{"kept", 20}, {"scattered", 20}};
  const auto flows = token_flows(trace);
  REQUIRE(flows.size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    for (int64_t e = 0; e < 4; ++e) CHECK(flows[0][i].counts.at(e, 3 - e) == 100);
    CHECK(flows[0][i].information == Approx(1));
    CHECK(flows[0][i].shuffled < 0.05);
    CHECK(flows[1][i].counts.total() == 400);
    CHECK(flows[1][i].information == Approx(0).margin(1e-3));
  }
  for (int64_t e = 0; e < 4; ++e)
    for (int64_t v = 0; v < 4; ++v) CHECK(flows[1][0].counts.at(e, v) == 25);
}

TEST_CASE("Flows count the first experts of a domain's own tokens") {
  Trace trace = uneven_trace(300, 5, 6, 2, 10, 3);
  trace.domains = {{"a", 7}, {"b", 23}};
  const Json json = flows_json(trace);
  CHECK(json["layers"] == Json({0, 2, 4}));
  REQUIRE(json["domains"].size() == 2);
  const auto counted = [&](int64_t from, int64_t to, int64_t lower, int64_t upper, int64_t e, int64_t v) {
    int64_t count = 0;
    for (int64_t t = from; t < to; ++t) count += trace.layer(lower)[t][0] == e && trace.layer(upper)[t][0] == v;
    return count;
  };
  for (int64_t e = 0; e < 6; ++e)
    for (int64_t v = 0; v < 6; ++v) {
      const auto i = static_cast<size_t>(e), j = static_cast<size_t>(v);
      CHECK(json["domains"][0]["counts"][0][i][j] == counted(0, 70, 0, 2, e, v));
      CHECK(json["domains"][1]["counts"][1][i][j] == counted(70, 300, 2, 4, e, v));
    }
}
