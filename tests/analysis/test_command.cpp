// `strand analyse` as users run it: files, tables, and clear refusals.
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "analysis/placement.h"
#include "analysis/trace.h"
#include "core/error.h"
#include "tests/catch.h"
#include "tests/e2e/workspace.h"

namespace strand {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using Json = nlohmann::json;

const Workspace& space_with_run() {
  static const bool made = [] {
    workspace().trained("seen",
                        {"--set", "train.steps=6", "--set", "train.checkpoint_every=2", "--set", "train.keep=5"});
    return true;
  }();
  (void)made;
  return workspace();
}

Outcome analyse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "analyse");
  return space_with_run().strand(arguments);
}

Json analysis_in(const fs::path& folder) {
  return Json::parse(bytes_of(space_with_run().root() / folder / "analysis.json"));
}

TEST_CASE("Two checkpoints, two domains, everything asked for: tables, files, and the same bytes again") {
  // A run is recognized as the same one, however its path is written.
  const std::string first = (space_with_run().root() / "runs" / "seen@2").string();
  const std::vector<std::string> arguments = {first,          "runs/seen@6",   "--data", "one=val",    "--data",
                                              "other=train",  "--tokens",      "256",    "--clusters", "64",
                                              "--redundancy", "--unit-length", "--out",  "all"};
  const Outcome outcome = analyse(arguments);
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("kappa") && Contains("max violation") && Contains("clusters, balanced"));
  CHECK_THAT(outcome.out, Contains("from checkpoint to checkpoint") && Contains("2 -> 6"));
  CHECK_THAT(outcome.out, Contains("1 masked") && Contains("nats of domain") && Contains("up and down") &&
                              Contains("in a later layer"));

  const Json analysis = analysis_in("all");
  CHECK(analysis["format"] == "strand-analysis-1");
  REQUIRE(analysis["data"].size() == 2);
  CHECK(analysis["data"][1]["name"] == "other");
  for (const Json& domain : analysis["data"]) CHECK(domain["tokens"] == 256);
  CHECK(analysis["tokens"] == 2 * 256);
  REQUIRE(analysis["models"].size() == 2);
  CHECK(analysis["models"][0]["step"] == 2);
  CHECK(analysis["models"][1]["name"] == "runs/seen@6");
  REQUIRE(analysis["stability"].size() == 1);
  for (const Json& model : analysis["models"]) {
    const size_t layers = model["layers"].size();
    CHECK(model["load"]["max_violation"].size() == layers);
    CHECK(model["coupling"]["pairs"].size() == layers - 1);
    CHECK(model["overlap"]["y"]["mean_squared_cosine"].size() == layers);
    REQUIRE(model["redundancy"].size() == 3);  // without none, the best, and the two best
    CHECK(model["redundancy"][0]["ce"] == model["terms"]["ce"]);
    CHECK(model["redundancy"][1]["ce"] != model["redundancy"][0]["ce"]);
    CHECK(model["redundancy"][2]["ce"] != model["redundancy"][1]["ce"]);
    const Json& domains = model["domains"]["by_domain"];  // equally long
    CHECK(domains[0]["ce"] != domains[1]["ce"]);
    CHECK((domains[0]["ce"].get<double>() + domains[1]["ce"].get<double>()) / 2 ==
          Approx(model["terms"]["ce"].get<double>()).epsilon(1e-5));
    CHECK(model["clusters"]["tokens"] == 64);
    CHECK(model["clusters"]["input_length"] == "unit");
    CHECK(model["flows"]["domains"].size() == 2);
    REQUIRE(!model["placement"].empty());
    for (const Json& row : model["placement"]) CHECK(row["swept"].contains("path"));
    CHECK(model["domains"]["information"].size() == layers);
    CHECK(model["losses"].contains("lb_weight"));
    // What vectors of random directions have, by the number of their dimensions: E cos² = 1/d, and E |cos| is nearly
    // √(2/πd). The width of an expert is that of z, the width of the model that of y and of the router's rows, and an
    // expert is three matrices of both.
    const double width = model["hidden_size"], ffn = model["expert_ffn"];
    REQUIRE(width != ffn);
    const auto absolute = [](double d) { return Approx(std::sqrt(2 / (std::numbers::pi * d))).epsilon(1e-5); };
    CHECK(model["overlap"]["z"]["random"]["mean_squared_cosine"].get<double>() == Approx(1 / ffn).epsilon(1e-5));
    CHECK(model["overlap"]["y"]["random"]["mean_squared_cosine"].get<double>() == Approx(1 / width).epsilon(1e-5));
    CHECK(model["overlap"]["y"]["random"]["mean_absolute_cosine"].get<double>() == absolute(width));
    CHECK(model["weights"]["random"]["mean_absolute_cosine"].get<double>() == absolute(3 * width * ffn));
    CHECK(model["geometry"]["random_router_cosine"].get<double>() == absolute(width));
    double sp = 0;  // the objective's term is the sum of what the layers have
    const double pairs = model["top_k"].get<double>() * (model["top_k"].get<double>() - 1);
    for (const Json& cos2 : model["overlap"]["z"]["mean_squared_cosine"]) sp += cos2.get<double>() * pairs;
    CHECK(sp == Approx(model["terms"]["sp"].get<double>()).epsilon(1e-4));
  }

  const Trace trace = read_trace((space_with_run().root() / "all" / "trace-1.safetensors").string());
  CHECK(trace.token_count() == analysis["tokens"].get<int64_t>());
  CHECK(trace.step == 6);
  CHECK(trace.domains.size() == 2);
  // A foreign rank costs a row there and a row back, in the type of activations: f32 here.
  const double width = analysis["models"][1]["hidden_size"];
  for (const Json& row : analysis["models"][1]["placement"]) {
    const int64_t ranks = row["ranks"];
    const Placement placement = round_robin_placement(trace.layer_count(), trace.num_experts, ranks);
    CHECK(
        row["round_robin"]["bytes_per_token"].get<double>() ==
        Approx(locality(trace, placement, ranks, Sequences::odd).foreign_ranks_a_token * 2 * 4 * width).epsilon(1e-4));
  }

  const std::string bytes = bytes_of(space_with_run().root() / "all" / "analysis.json");
  REQUIRE(analyse(arguments).status == 0);
  CHECK(bytes_of(space_with_run().root() / "all" / "analysis.json") == bytes);
}

TEST_CASE("A run alone: its newest checkpoint, results in the run, JSON on request, the loss that eval gives") {
  const Outcome outcome = analyse({"runs/seen", "--data", "text=val", "--tokens", "0", "--batch-size", "3", "--format",
                                   "megatron", "--threads", "1", "--json"});
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  const Json printed = Json::parse(outcome.out);
  CHECK(printed == analysis_in("runs/seen/analysis"));
  CHECK(printed["models"][0]["step"] == 6);
  CHECK(printed["models"][0]["clusters"].is_null());
  CHECK(printed["models"][0]["redundancy"].is_null());
  const Outcome eval =
      space_with_run().strand({"eval", "runs/seen", "--data", "val", "--batch-size", "3", "--threads", "1", "--json"});
  REQUIRE(eval.status == 0);
  const Json want = Json::parse(eval.out);
  CHECK(printed["tokens"] == want["tokens"]);
  for (const char* term : {"ce", "lb", "z", "sp", "cp", "o", "v", "entropy"}) {
    INFO(term);  // six digits are written
    CHECK(printed["models"][0]["terms"][term].get<double>() == Approx(want[term].get<double>()).epsilon(1e-5));
  }
}

TEST_CASE("The reference device gives the same routing") {
  const std::vector<std::string> common = {"runs/seen", "--data", "text=val", "--tokens", "64", "--json", "--out"};
  auto on_cpu = common, on_reference = common;
  on_cpu.insert(on_cpu.end(), {"cpu", "--device", "cpu", "--precision", "fp32"});
  on_reference.insert(on_reference.end(), {"reference", "--device", "reference"});
  const Outcome cpu = analyse(on_cpu), reference = analyse(on_reference);
  REQUIRE(cpu.status == 0);
  REQUIRE(reference.status == 0);
  const Json a = Json::parse(cpu.out)["models"][0], b = Json::parse(reference.out)["models"][0];
  // A choice may differ where two experts are equal to fp32 rounding; among so few tokens there is none.
  CHECK(a["load"]["counts"] == b["load"]["counts"]);
  CHECK(a["coupling"]["pairs"][0]["conditional"] == b["coupling"]["pairs"][0]["conditional"]);
  CHECK(a["terms"]["ce"].get<double>() == Approx(b["terms"]["ce"].get<double>()).epsilon(1e-5));
}

TEST_CASE("What cannot be analysed is refused with a reason") {
  const auto refused = [](const std::vector<std::string>& arguments, int status, const std::string& why) {
    const Outcome outcome = analyse(arguments);
    INFO(why);
    CHECK(outcome.status == status);
    CHECK_THAT(outcome.err, Contains(why));
  };
  refused({"runs/seen@4711", "--data", "text=val"}, 1, "there is no checkpoint step_00004711 in runs/seen");
  refused({"runs/seen@4711", "--data", "text=val"}, 1, "but step_0000000");
  refused({"runs/seen@four", "--data", "text=val"}, 1, "runs/seen@four: no such directory");
  refused({"runs/unseen", "--data", "text=val"}, 1, "runs/unseen");
  refused({"runs/seen", "--data", "val"}, 2, "NAME=PREFIX");
  refused({"runs/seen", "--data", "=val"}, 2, "NAME=PREFIX");
  refused({"runs/seen", "--data", "a=val", "--data", "a=train"}, 2, "two are called 'a'");
  refused({"runs/seen", "--data", "a=nothing"}, 1, "nothing");
  refused({"runs/seen", "--data", "a=val", "--tokens", "-1"}, 2, "--tokens");
  refused({"runs/seen", "--data", "a=val", "--unit-length"}, 2, "--clusters");
}

}  // namespace
}  // namespace strand
