// bench under mpirun: one report, by the first rank, whose traffic is the plan's.
#include "tests/catch.h"
#include <nlohmann/json.hpp>

#include "../checkpoint/fixtures.h"
#include "../cli/run_strand.h"
#include "small_config.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
using json = nlohmann::json;

namespace {
struct Files {
  TemporaryDirectory directory;
  std::string config = directory / "small.yaml";
  std::string one = directory / "one.json", two = directory / "two.json";

  Files() { put(config, strand_test::small_yaml); }
  /// On several ranks, experts spread over all of them.
  Outcome bench(int ranks, const std::vector<std::string>& more) const {
    const std::string n = std::to_string(ranks);
    std::vector<std::string> words = {"/usr/bin/env", "mpirun", "--oversubscribe", "--bind-to", "none", "-n", n};
    if (ranks == 1) words.clear();
    for (const std::string& word :
         {strand_program(), std::string("bench"), config, std::string("--steps"), std::string("2"),
          std::string("--set"), std::string("run.threads=1"), std::string("--set"), "parallel.expert_parallel=" + n})
      words.push_back(word);
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  }
};
}  // namespace

TEST_CASE("bench of two ranks reports once, and its traffic is the plan's") {
  const Files files;
  const Outcome outcome = files.bench(2, {"--json", files.two});
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("2 ranks, experts over 2, each 1 thread"));
  CHECK(outcome.out.find("seconds a step") == outcome.out.rfind("seconds a step"));

  const json result = json::parse(get(files.two)), ranks = result.at("ranks");
  CHECK(result.at("tokens_per_step") == 32);
  CHECK(result.at("workload").at("ranks") == "2");
  REQUIRE(ranks.at("each").size() == 2);
  double rows = 0;
  for (const json& rank : ranks.at("each")) rows += rank.at("expert_rows").get<double>();
  CHECK(rows == 32 * 2 * 2);  // tokens, experts of each, layers: nothing is lost on the way

  const json plan =
      json::parse(run_strand({"plan", files.config, "--ranks", "2", "--expert-parallel", "2", "--json"}).out);
  for (const json& kind : ranks.at("traffic")) {
    double calls = 0, messages = 0, payload = 0;
    for (const json& planned : plan.at("traffic")) {
      if (planned.at("kind") != kind.at("kind")) continue;
      calls += planned.at("calls").get<double>();
      messages += planned.at("messages").get<double>();
      payload += planned.at("payload_bytes").get<double>();
    }
    INFO(kind.at("kind"));
    CHECK(kind.at("calls") == calls);
    CHECK(kind.at("messages") == messages);
    CHECK(kind.at("payload_bytes") == payload);
  }
}

TEST_CASE("bench says how a result scales, and compares only like numbers of ranks") {
  const Files files;
  REQUIRE(files.bench(1, {"--json", files.one}).status == 0);
  CHECK_THAT(files.bench(2, {"--scaling", files.one}).out, Contains("strong scaling"));
  CHECK_THAT(files.bench(2, {"--scaling", files.one, "--set", "train.global_batch_size=8"}).out,
             Contains("weak scaling"));
  const Outcome unlike = files.bench(2, {"--against", files.one});
  CHECK(unlike.status != 0);
  CHECK_THAT(unlike.err, Contains("ranks: 2 here, 1 there"));
}
