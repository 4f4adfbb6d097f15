// Benchmark results: arithmetic, JSON and back, and what may be compared with what.
#include <nlohmann/json.hpp>

#include "../checkpoint/fixtures.h"
#include "report/bench_report.h"
#include "small_config.h"
#include "tests/catch.h"

using namespace strand;
using Catch::Contains;
using strand::test::error_of;

namespace {
BenchReport example() {
  BenchReport r;
  r.setup = {workload_of(strand_test::small_config()), {"a CPU", 8}, 4};
  r.warmup_steps = 2;
  r.parameters = 1000;
  r.active_parameters = 500;
  r.tokens_per_step = 32;
  r.training_flops_per_token = 3000;
  r.fp32_peak = 1e6;
  r.bf16_peak = 2e6;
  r.peak_used = "fp32";
  r.step_seconds = {0.4, 0.2, 0.8, 0.3};
  r.profile = {0.5, {{"attention", 0.125, 10, 1e4, 2e4}, {"norm", 0.25, 20, 0, 3e4}}};
  r.program_bytes = 3 << 18;
  r.planned_bytes = 1 << 20;
  r.peak_resident_bytes = 2 << 20;
  return r;
}
}  // namespace

TEST_CASE("speed, MFU and the time outside operations") {
  const BenchReport r = example();
  CHECK(best_of(r.step_seconds) == 0.2);
  CHECK(median_of(r.step_seconds) == Approx(0.35));
  CHECK(median_of({3, 1, 2}) == 2);
  CHECK(r.tokens_per_second(0.2) == Approx(160));
  CHECK(r.mfu(0.2) == Approx(160 * 3000 / 1e6));
  CHECK(r.profile.outside_seconds() == 0.125);
}

TEST_CASE("JSON and back loses nothing") {
  BenchReport r = example();
  r.losses_overhead = LossesOverhead{2e-3, 1e-3, {0.1, 0.2}, {0.3, 0.4}, {0.5, 0.6}, {0.7, 0.8}};
  const std::string text = to_json(r).dump();
  const BenchReport back = bench_report_from_json(text, "memory");
  CHECK(to_json(back).dump() == text);
  CHECK(back.setup.workload == r.setup.workload);
  CHECK(back.setup.machine == r.setup.machine);
  CHECK(back.losses_overhead->both == r.losses_overhead->both);
}

TEST_CASE("the workload names what decides the work, and nothing else") {
  Config config = strand_test::small_config();
  const auto workload = workload_of(config);
  for (const char* key : {"model.vocab_size", "moe.top_k", "losses.sp_weight", "data.sequence_length", "run.precision",
                          "train.recompute", "train.micro_batch_size", "train.global_batch_size"})
    CHECK(workload.count(key) == 1);
  CHECK(workload.at("moe.num_experts") == "4");
  config.run.name = "other";
  config.optimizer.lr = 0.5;
  config.train.steps = 99;
  CHECK(workload_of(config) == workload);
}

TEST_CASE("JSON that is no benchmark result is refused by name") {
  const std::string good = to_json(example()).dump();
  const std::string bad = GENERATE_COPY(std::string(""), std::string("[1]"), std::string("{}"),
                                        std::string(R"({"format": "strand plan 1"})"), good.substr(0, good.size() / 2));
  CHECK_THAT(error_of([&] { bench_report_from_json(bad, "x.json"); }), Contains("x.json") && Contains("strand bench"));

  nlohmann::ordered_json j = to_json(example());
  SECTION("a missing key") {
    j.erase("threads");
  }
  SECTION("a wrong type") {
    j["machine"]["cores"] = "many";
  }
  SECTION("no steps") {
    j["step_seconds"] = nlohmann::ordered_json::array();
  }
  SECTION("a step that took no time") {
    j["step_seconds"][1] = 0.0;
  }
  CHECK_THAT(error_of([&] { bench_report_from_json(j.dump(), "x.json"); }), Contains("x.json"));
}

TEST_CASE("only like is compared with like") {
  const BenchReport now = example();
  BenchReport before = example();
  const auto refusal = [&] { return error_of([&] { require_comparable(now.setup, before.setup, "old.json"); }); };
  CHECK(refusal().empty());
  SECTION("threads") {
    before.setup.threads = 2;
    CHECK_THAT(refusal(), Contains("old.json") && Contains("threads: 4 here, 2 there"));
  }
  SECTION("machine") {
    before.setup.machine.cpu = "another CPU";
    CHECK_THAT(refusal(), Contains("a CPU here, another CPU there"));
  }
  SECTION("every difference is named") {
    before.setup.workload["run.precision"] = "bf16";
    before.setup.workload["moe.top_k"] = "1";
    before.setup.workload.erase("moe.score");
    CHECK_THAT(refusal(), Contains("run.precision: fp32 here, bf16 there") && Contains("moe.top_k: 2 here, 1 there") &&
                              Contains("moe.score: softmax here, absent there"));
  }
}

TEST_CASE("a comparison gives ratios") {
  const BenchReport now = example();
  BenchReport before = example();
  before.step_seconds = {0.4};
  before.profile.families[0].seconds = 0.25;
  const std::string text = comparison_text(now, before, "old.json");
  CHECK_THAT(text, Contains("old.json") && Contains("2.000") && Contains("0.500"));
}

TEST_CASE("the table for people names workload, machine and peak") {
  BenchReport r = example();
  r.losses_overhead = LossesOverhead{2e-3, 1e-3, {1.0, 1.0}, {1.01, 1.01}, {1.0, 1.0}, {1.02, 1.02}};
  CHECK_THAT(to_text(r), Contains("a CPU") && Contains("4 threads") && Contains("fp32") && Contains("attention") &&
                             Contains("48.0 %") && Contains("+2.00 %") && Contains("outside operations"));
}

TEST_CASE("A figure beyond the peak that it is compared with is printed with a word of doubt") {
  BenchReport r = example();
  CHECK(beyond_peak(r).empty());
  CHECK_THAT(to_text(r), !Contains("MORE THAN THE PEAK"));
  SECTION("a family") {
    r.profile.families[0].flops = 1.25e5 + 1e3;  // in an eighth of a second, against a peak of 1e6
    CHECK(beyond_peak(r) == std::vector<std::string>{"attention"});
    CHECK_THAT(to_text(r), Contains("MORE THAN THE PEAK: attention."));
    r.profile.families[0].flops = 1.25e5 - 1e3;
    CHECK(beyond_peak(r).empty());
    r.ranks = RanksResult{.expert_parallel = 1, .each = {{0.2, 0, 0, 1}, {0.2, 0, 0, 1}}};
    r.setup.workload["ranks"] = "2";  // each has half of the peak
    CHECK(beyond_peak(r) == std::vector<std::string>{"attention"});
  }
  SECTION("the whole step") {
    r.training_flops_per_token = 7000;  // 160 tokens a second at best
    CHECK(beyond_peak(r) == std::vector<std::string>{"MFU"});
    CHECK_THAT(to_text(r), Contains("MORE THAN THE PEAK: MFU."));
  }
  SECTION("bf16 is compared with the peak of bf16") {
    r.training_flops_per_token = 7000;
    r.peak_used = "bf16";
    CHECK(beyond_peak(r).empty());
  }
}

namespace {
/// Two ranks of which one computes three quarters of the rows.
BenchReport two_ranks() {
  Config config = strand_test::small_config();
  config.parallel.expert_parallel = 2;
  BenchReport r = example();
  r.setup.workload = workload_of(config, 2);
  r.step_seconds = {0.25, 0.2};
  r.ranks = RanksResult{.expert_parallel = 2,
                        .each = {{0.2, 0.05, 0.01, 30}, {0.19, 0.01, 0.02, 10}},
                        .traffic = {{"dispatch", 8, 8, 4096, 2048, 0.02, 0.01}}};
  return r;
}
}  // namespace

TEST_CASE("a result of several ranks goes through JSON whole, and its tables say how alike the ranks are") {
  const BenchReport r = two_ranks();
  const std::string text = to_json(r).dump();
  CHECK(to_json(bench_report_from_json(text, "memory")).dump() == text);
  CHECK(nlohmann::json::parse(text).at("ranks").at("each").at(1).at("expert_rows") == 10);
  const std::string tables = to_text(r);
  CHECK_THAT(tables, Contains("2 ranks, experts over 2, each 4 threads"));
  CHECK_THAT(tables, Contains("1.500"));  // 30 rows over a mean of 20
  CHECK_THAT(tables, Contains("dispatch") && Contains("4.00 KiB") && Contains("2.00 KiB"));
  // 1e4 FLOP in an eighth of a second are 8 % of the peak, but 16 % of one rank's half of it.
  CHECK_THAT(tables, Contains("16.0 %"));
  CHECK_THAT(to_text(example()), !Contains("rank"));
}

TEST_CASE("numbers of ranks make workloads unlike; a result that does not say is of one") {
  CHECK_THAT(error_of([] { require_comparable(two_ranks().setup, example().setup, "old.json"); }),
             Contains("ranks: 2 here, 1 there") && Contains("parallel.expert_parallel: 2 here, 1 there"));
  nlohmann::ordered_json old = to_json(example());
  old.at("workload").erase("ranks");
  old.at("workload").erase("parallel.expert_parallel");
  CHECK_NOTHROW(require_comparable(example().setup, bench_report_from_json(old.dump(), "old.json").setup, "old.json"));
}

TEST_CASE("scaling is strong with the same batch, weak with as much for each rank, and nothing with neither") {
  BenchReport now = two_ranks();
  const BenchReport before = example();
  // Strong: 32 tokens in 0.2 s at best as before, on twice the ranks.
  CHECK(scaling_of(now.setup, before.setup, "old.json") == Scaling::strong);
  CHECK_THAT(scaling_text(now, before, "old.json"), Contains("strong scaling from old.json") && Contains("50.0 %"));

  now.setup.workload["train.global_batch_size"] = "8";
  now.tokens_per_step = 64;
  CHECK(scaling_of(now.setup, before.setup, "old.json") == Scaling::weak);
  CHECK_THAT(scaling_text(now, before, "old.json"), Contains("weak scaling from old.json") && Contains("100.0 %"));

  now.setup.machine.cores = 1;  // what a launcher left each process
  CHECK_NOTHROW(scaling_of(now.setup, before.setup, "old.json"));
  now.setup.threads = 1;
  CHECK_THAT(error_of([&] { scaling_of(now.setup, before.setup, "old.json"); }), Contains("threads: 1 here, 4 there"));
  now.setup.threads = 4;
  now.setup.workload["train.global_batch_size"] = "12";
  CHECK_THAT(error_of([&] { scaling_of(now.setup, before.setup, "old.json"); }), Contains("12 on 2 ranks"));
  CHECK_THAT(error_of([&] { scaling_of(before.setup, before.setup, "old.json"); }), Contains("--against"));
}
