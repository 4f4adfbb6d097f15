// The plan of a small configuration against numbers worked out by hand.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/number_text.h"
#include "model/backend.h"
#include "report/plan_report.h"
#include "small_config.h"
#include "tests/catch.h"
#include "train/training_plan.h"

using namespace strand;
using strand_test::small_config;

namespace {
PlanReport plan(const Config& config) {
  std::vector<RecomputePlan> plans;
  Config other = config;
  for (const Recompute recompute : {Recompute::none, Recompute::experts, Recompute::block}) {
    other.train.recompute = recompute;
    plans.push_back({recompute, plan_training(other, {.row_alignment = 16})});
  }
  return make_plan_report(config, {}, plans);
}

double family_flops(const PlanReport& report, OpFamily family) {
  return report.session.work.ops.flops[static_cast<int>(family)];
}

const KeptTensors& kept(const PlanReport& report, const std::string& name) {
  const auto found =
      std::find_if(report.kept.begin(), report.kept.end(), [&](const auto& k) { return k.name == name; });
  REQUIRE(found != report.kept.end());
  return *found;
}

/// Expert rows of 16 tokens, 2 experts each: 4 blocks may each end in an unfinished unit of the backend's alignment.
size_t expert_rows() {
  RunConfig run;
  run.device = DeviceKind::plan;
  return 32 + 4 * static_cast<size_t>(make_device(run)->row_alignment() - 1);
}

constexpr size_t embed = 16 * 8, qkv = 3 * 8 * 8, o_proj = 8 * 8, router = 4 * 8, gate_up = 4 * 32 * 8,
                 down = 4 * 8 * 16;
constexpr size_t norm_bytes = 32 * 4;  // 8 floats, padded to 32; all others are multiples of it
}  // namespace

TEST_CASE("memory of the weights, their gradients and moments") {
  const PlanReport report = plan(small_config());
  const size_t weights = 4 * (embed + 2 * (qkv + o_proj + router + gate_up + down)) + 5 * norm_bytes;
  CHECK(report.model.weights == weights);
  CHECK(report.model.gradients == weights);
  CHECK(report.model.moments == 2 * weights);
  CHECK(report.model.act_copies == 0);
  // Cosines and sines of 2 angles at 8 positions; nine numbers of a step (72 bytes, padded to 128); and eight of at
  // most 64 bytes, padded to that: inputs and targets (16 ids) of two batches, one number, the terms, the counts of
  // selections in training and in evaluation (2 layers of 4 experts).
  const size_t buffers = 8 * 2 * 2 * 4 + 128 + 8 * 64;
  CHECK(report.model.buffers == buffers);
  CHECK(report.session.model.bytes == 4 * weights + buffers);
  CHECK(report.size.parameters == embed + 2 * (qkv + o_proj + router + gate_up + down) + 5 * 8);
}

TEST_CASE("bf16 adds copies of what GEMMs read: not of norms, not of the router") {
  Config config = small_config();
  config.run.precision = Precision::bf16;
  const PlanReport report = plan(config);
  CHECK(report.model.act_copies == 2 * (embed + 2 * (qkv + o_proj + gate_up + down)));
  CHECK(report.model.weights == plan(small_config()).model.weights);
  CHECK(kept(report, "experts.gate_up").bytes == 2 * expert_rows() * 32 * 2);
}

TEST_CASE("what forward keeps is listed by name, summed over layers") {
  const PlanReport report = plan(small_config());
  CHECK(kept(report, "x_in").count == 2);
  CHECK(kept(report, "x_in").bytes == 2 * 16 * 8 * 4);
  CHECK(kept(report, "router.probs").bytes == 2 * 16 * 4 * 4);
  CHECK(kept(report, "experts.gate_up").bytes == 2 * expert_rows() * 32 * 4);
  CHECK(kept(report, "experts.gate_up").shape == Shape{static_cast<int64_t>(expert_rows()), 32});
  size_t sum = 0;
  for (const KeptTensors& k : report.kept) sum += k.bytes;
  CHECK(sum == report.session.step.bytes);
}

TEST_CASE("FLOPs of a step by family") {
  const PlanReport report = plan(small_config());
  CHECK(report.micro_steps == 2);
  CHECK(report.tokens_per_step == 32);
  const double layers = 2, tokens = 32, slots = 64, sequences = 4;
  // A product and its two gradients, with 2 FLOP for each multiply-add.
  CHECK(family_flops(report, OpFamily::expert_gemm) == layers * 3 * 2 * slots * (32 * 8 + 8 * 16));
  CHECK(family_flops(report, OpFamily::dense_gemm) == layers * 3 * 2 * tokens * (24 * 8 + 8 * 8));
  CHECK(family_flops(report, OpFamily::head_loss) == 3 * 2 * tokens * 16 * 8);
  CHECK(family_flops(report, OpFamily::router) == layers * 3 * 2 * tokens * 8 * 4);
  // Half a square of 8 x 8 scores a head: 2 products forward, 5 backward (scores again).
  CHECK(family_flops(report, OpFamily::attention) == layers * 7 * sequences * 2 * (2 * 8 * 8 * 4 / 2));
  CHECK(family_flops(report, OpFamily::optimizer) == 0);
}

TEST_CASE("the optimizer's calls and bytes count once a step, gradients are zeroed once") {
  Config config = small_config();
  const PlanReport two = plan(config);
  config.train.micro_batch_size = 4;
  const PlanReport one = plan(config);
  const int optimizer = static_cast<int>(OpFamily::optimizer), experts = static_cast<int>(OpFamily::expert_gemm);
  CHECK(two.session.work.ops.calls[optimizer] == one.session.work.ops.calls[optimizer]);
  CHECK(two.session.work.ops.bytes[optimizer] == one.session.work.ops.bytes[optimizer]);
  CHECK(two.session.work.ops.calls[experts] == 2 * one.session.work.ops.calls[experts]);
  // AdamW reads and writes weight, m and v and reads the gradient; the norm reads the gradient: 32 bytes a parameter.
  // Clipping reads the terms and the numbers of the step.
  const double numbers = static_cast<double>(one.size.parameters);
  CHECK(one.session.work.ops.bytes[optimizer] == 32 * numbers + 8 * (term_count + step_number_count));
}

TEST_CASE("recomputation trades memory for FLOPs, and says which") {
  const PlanReport report = plan(small_config());
  REQUIRE(report.choices.size() == 3);
  const RecomputeChoice &none = report.choices[0], &experts = report.choices[1], &block = report.choices[2];
  CHECK(none.total == report.session.bytes());
  CHECK(none.flops == report.session.work.ops.total_flops());
  CHECK(experts.step < none.step);
  CHECK(block.step < experts.step);
  const double gate_up_again = 2 * 2 * 64.0 * (32 * 8);
  CHECK(experts.flops - none.flops == gate_up_again);
  const double attention_again = 2 * 2 * 4.0 * 2 * (2 * 8 * 8 * 4 / 2), dense_again = 2 * 2 * 32.0 * (24 * 8 + 8 * 8);
  CHECK(block.flops - none.flops == gate_up_again + attention_again + dense_again);
}

TEST_CASE("the JSON of a plan says the same") {
  const PlanReport report = plan(small_config());
  const nlohmann::ordered_json j = to_json(report);
  CHECK(j.at("format") == "strand plan 2");
  CHECK(j.at("parameters") == report.size.parameters);
  size_t sum = 0;
  for (const char* part : {"weights", "act_copies", "gradients", "moments", "buffers", "step", "scratch"})
    sum += j.at("memory").at(part).get<size_t>();
  CHECK(j.at("memory").at("total") == sum);
  CHECK(j.at("families").size() == op_family_count);
  CHECK(j.at("recompute_choices").at(1).at("name") == "experts");
}

TEST_CASE("numbers for people") {
  CHECK(grouped_digits(0) == "0");
  CHECK(grouped_digits(999) == "999");
  CHECK(grouped_digits(1000) == "1,000");
  CHECK(grouped_digits(-123456) == "-123,456");
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1536) == "1.50 KiB");
  CHECK(si_text(1.5e9) == "1.50 G");
  CHECK(si_text(12) == "12");
  CHECK(percent_text(0.1234) == "12.3 %");
}
