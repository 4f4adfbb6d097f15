// plan, bench and inspect as people run them: exit codes, tables, JSON.
#include "tests/catch.h"
#include <nlohmann/json.hpp>
#include <numeric>

#include "../checkpoint/fixtures.h"
#include "../cli/run_strand.h"
#include "report/bench_report.h"
#include "small_config.h"

using namespace strand;
using namespace strand::test;
using Catch::Contains;
using json = nlohmann::json;

namespace {
struct Files {
  TemporaryDirectory directory;
  std::string config = directory / "small.yaml";
  std::string result = directory / "result.json";

  Files() { put(config, strand_test::small_yaml); }
  Outcome bench(std::vector<std::string> more) const {
    std::vector<std::string> words = {"bench", config, "--steps", "3", "--warmup", "1", "--profiled", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return run_strand(words);
  }
};
}  // namespace

TEST_CASE("plan prints tables, or the same as JSON") {
  const Files files;
  const Outcome text = run_strand({"plan", files.config});
  CHECK(text.status == 0);
  CHECK_THAT(text.out, Contains("experts.gate_up") && Contains("expert GEMM") && Contains("none (chosen)"));
  const Outcome as_json = run_strand({"plan", files.config, "--json", "--set", "train.recompute=block"});
  REQUIRE(as_json.status == 0);
  const json plan = json::parse(as_json.out);
  CHECK(plan.at("recompute") == "block");
  CHECK(plan.at("memory").at("total") == plan.at("recompute_choices").at(2).at("total"));
}

TEST_CASE("plan needs a vocabulary, but no tokenizer when it is told") {
  const Files files;
  const std::vector<std::string> absent = {"plan", files.config, "--set", "data.tokenizer=/absent/tokenizer.model"};
  CHECK(run_strand(absent).status == 0);
  std::vector<std::string> unknown = absent;
  unknown.insert(unknown.end(), {"--set", "model.vocab_size=0"});
  const Outcome outcome = run_strand(unknown);
  CHECK(outcome.status == 1);
  CHECK_THAT(outcome.err, Contains("model.vocab_size") && Contains("/absent/tokenizer.model"));
}

TEST_CASE("the largest shipped configuration plans on this machine") {
  const Outcome outcome = run_strand({"plan", STRAND_SOURCE_DIR "/configs/paper_large.yaml"});
  CHECK(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("7,006,110,720 parameters"));
}

TEST_CASE("plan --ranks is the plan of one rank, and --device estimates a step") {
  const Files files;
  const std::vector<std::string> two = {"plan", files.config, "--ranks", "2", "--expert-parallel", "2"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), two.begin(), two.end());
    return run_strand(more);
  };
  const Outcome text = with({});
  CHECK(text.status == 0);
  CHECK_THAT(text.out,
             Contains("2 ranks, experts over 2") && Contains("losses.sp_token_fraction 1") && !Contains("estimate"));

  const Outcome estimated = with({"--device", "h100", "--memory", "1e4", "--flops", "1e12", "--json"});
  REQUIRE(estimated.status == 0);
  CHECK_THAT(estimated.err, Contains("each rank needs"));
  const json plan = json::parse(estimated.out), estimate = plan.at("estimate");
  CHECK(plan.at("grid").at("ranks") == 2);
  CHECK(plan.at("micro_steps") == 1);
  CHECK(estimate.at("memory_fits") == false);
  CHECK(estimate.at("device").at("fp32_flops") == 1e12);
  CHECK(estimate.at("device").at("ranks_per_host") == 8);
  double sum = 0;
  for (const json& traffic : estimate.at("traffic")) sum += traffic.at("seconds").get<double>();
  CHECK(sum == Approx(estimate.at("communication_seconds").get<double>()));
  CHECK_THAT(with({"--device", "cpu"}).out, Contains("estimate for cpu"));
}

TEST_CASE("plan refuses layouts that do not divide, and numbers without a device") {
  const Files files;
  const Outcome batch = run_strand({"plan", files.config, "--ranks", "3"});
  CHECK(batch.status == 1);
  CHECK_THAT(batch.err, Contains("global_batch_size 4") && Contains("2 times 3 ranks = 6"));
  const Outcome experts = run_strand({"plan", files.config, "--ranks", "3", "--expert-parallel", "2"});
  CHECK(experts.status == 1);
  CHECK_THAT(experts.err, Contains("does not divide the number of ranks, 3"));
  CHECK_THAT(run_strand({"plan", files.config, "--device", "abacus"}).err, Contains("h100"));
  CHECK(run_strand({"plan", files.config, "--link", "1e9"}).status == 2);
}

TEST_CASE("bench prints tables and writes the JSON that its header describes") {
  const Files files;
  const Outcome outcome = files.bench({"--json", files.result});
  INFO(outcome.err);
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("tokens a second") && Contains("MFU") && Contains("peak of the process"));

  const json result = json::parse(get(files.result));
  CHECK(result.at("step_seconds").size() == 3);
  CHECK(result.at("warmup_steps") == 1);
  CHECK(result.at("threads") == 2);
  CHECK(result.at("tokens_per_step") == 32);
  CHECK(result.at("workload").at("moe.top_k") == "2");
  CHECK(result.at("peak").at("fp32_flops") > 0);
  CHECK(result.at("memory").at("program_bytes") > 0);
  CHECK(result.at("memory").at("peak_resident_bytes") > result.at("memory").at("program_bytes"));
  CHECK_FALSE(result.contains("losses_overhead"));

  // Work and memory are the plan's; calls are those that were made.
  const json plan = json::parse(run_strand({"plan", files.config, "--json"}).out);
  CHECK(result.at("memory").at("planned_bytes") == plan.at("memory").at("total"));
  double inside = 0;
  for (size_t i = 0; i < plan.at("families").size(); ++i) {
    const json &measured = result.at("profile").at("families").at(i), &planned = plan.at("families").at(i);
    INFO(planned.at("name"));
    CHECK(measured.at("flops") == planned.at("flops"));
    CHECK(measured.at("calls") == planned.at("calls"));
    inside += measured.at("seconds").get<double>();
  }
  CHECK(inside + result.at("profile").at("outside_seconds").get<double>() ==
        Approx(result.at("profile").at("step_seconds").get<double>()));
  CHECK(bench_report_from_json(get(files.result), "result").tokens_per_step == 32);
}

TEST_CASE("bench compares with an earlier result, of the same work only") {
  const Files files;
  REQUIRE(files.bench({"--json", files.result}).status == 0);
  const Outcome same = files.bench({"--against", files.result});
  CHECK(same.status == 0);
  CHECK_THAT(same.out, Contains("now / before"));

  const Outcome other = files.bench({"--against", files.result, "--set", "run.precision=bf16"});
  CHECK(other.status == 1);
  CHECK(other.out.empty());
  CHECK_THAT(other.err, Contains("run.precision: bf16 here, fp32 there"));

  put(files.result, "{}");
  CHECK(files.bench({"--against", files.result}).status == 1);
  CHECK(files.bench({"--against", files.directory / "absent.json"}).status == 1);
}

TEST_CASE("bench measures the overhead of sp and cp when they have weights") {
  const Files files;
  const Outcome outcome = files.bench({"--losses-overhead", "--json", files.result});
  REQUIRE(outcome.status == 0);
  CHECK_THAT(outcome.out, Contains("sp + cp"));
  const json overhead = json::parse(get(files.result)).at("losses_overhead");
  for (const char* variant : {"neither", "sp", "cp", "both"}) CHECK(overhead.at(variant).size() == 3);

  const Outcome idle = files.bench({"--losses-overhead", "--set", "losses.sp_weight=0", "--set", "losses.cp_weight=0"});
  CHECK(idle.status == 1);
  CHECK_THAT(idle.err, Contains("losses.sp_weight"));
}

TEST_CASE("bench runs in bf16 and with every kind of recomputation") {
  const Files files;
  const std::string recompute = GENERATE("none", "experts", "block");
  CHECK(files.bench({"--set", "run.precision=bf16", "--set", "train.recompute=" + recompute}).status == 0);
}

TEST_CASE("inspect says what a file is, or fails with 1") {
  const Files files;
  put(files.directory / "a", raw_file("{}", ""));
  const Outcome known = run_strand({"inspect", files.directory / "a"});
  CHECK(known.status == 0);
  CHECK_THAT(known.out, Contains("safetensors"));
  const Outcome unknown = run_strand({"inspect", files.config});
  CHECK(unknown.status == 1);
  CHECK_THAT(unknown.err, Contains("unknown kind of file"));
}

TEST_CASE("wrong command lines exit with 2") {
  const Files files;
  CHECK(run_strand({"plan"}).status == 2);
  CHECK(run_strand({"bench", files.config, "--steps", "0"}).status == 2);
  CHECK(run_strand({"bench", files.config, "--steps", "many"}).status == 2);
  CHECK(run_strand({"inspect"}).status == 2);
  CHECK(run_strand({"inspect", files.config, "--format", "bogus"}).status == 2);
}
