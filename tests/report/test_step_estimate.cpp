// Estimates against sums worked out by hand.
#include <algorithm>

#include "report/step_estimate.h"
#include "small_config.h"
#include "tests/catch.h"

using namespace strand;

namespace {
/// Round numbers: 1000 FLOP/s in bf16, 100 in fp32, 10 bytes/s to memory, 4 to the host's ranks, 2 to others.
DeviceSpec device() {
  return {.name = "round",
          .bf16_flops = 1000,
          .fp32_flops = 100,
          .memory_bytes = 1e6,
          .memory_bandwidth = 10,
          .link_bandwidth = 4,
          .network_bandwidth = 2,
          .message_seconds = 0.5,
          .per_host = 4};
}

void add(StepWork& work, OpFamily family, double flops, double bytes) {
  const auto i = static_cast<size_t>(family);
  work.ops.flops[i] = flops;
  work.ops.bytes[i] = bytes;
  work.ops.calls[i] = 1;
}

void add(StepWork& work, RankGroup group, Traffic kind, int64_t calls, int64_t messages, double sent) {
  TrafficCounts::Kind& counts = work.traffic[group][kind];
  counts.calls = calls;
  counts.messages = messages;
  counts.sent_bytes = sent;
}

/// Experts 300 s, dense 60 s, router 12 s (fp32), optimizer 28 s: 400 s at half of the peak, in bf16.
StepWork work() {
  StepWork w;
  add(w, OpFamily::expert_gemm, 150'000, 10);
  add(w, OpFamily::dense_gemm, 500, 600);
  add(w, OpFamily::router, 600, 100);
  add(w, OpFamily::optimizer, 0, 280);
  return w;
}

/// 8 ranks on two hosts of 4; two micro-steps of each rank.
Config config() {
  Config c = strand_test::small_config();
  c.run.precision = Precision::bf16;
  c.moe.num_experts = 8;
  c.train.micro_batch_size = 1;
  c.train.global_batch_size = 16;
  c.parallel.exchange_chunks = 4;
  return c;
}

const GridShape grid{.ranks = 8, .expert_parallel = 2};
}  // namespace

TEST_CASE("a group lies within a host when its ranks are neighbours there") {
  CHECK(within_host(RankGroup::world, {8, 2}, 8));
  CHECK_FALSE(within_host(RankGroup::world, {16, 2}, 8));
  CHECK(within_host(RankGroup::experts, {16, 8}, 8));
  CHECK_FALSE(within_host(RankGroup::experts, {32, 16}, 8));
  CHECK_FALSE(within_host(RankGroup::experts, {12, 3}, 8));  // ranks 6, 7 | 8
  CHECK(within_host(RankGroup::replicas, {16, 16}, 8));      // alone
  CHECK_FALSE(within_host(RankGroup::replicas, {16, 8}, 8));
}

TEST_CASE("a family takes as long as its arithmetic or its bytes") {
  const auto family = [](const StepEstimate& e, OpFamily f) {
    return *std::find_if(e.families.begin(), e.families.end(), [&](const auto& x) { return x.family == f; });
  };
  const StepEstimate e = estimate_step(config(), grid, work(), device(), 0.5);
  REQUIRE(e.families.size() == 4);
  CHECK(family(e, OpFamily::expert_gemm).seconds == 300);  // 150 000 / 500
  CHECK(family(e, OpFamily::expert_gemm).bound == StepEstimate::Bound::arithmetic);
  CHECK(family(e, OpFamily::dense_gemm).seconds == 60);  // 600 / 10
  CHECK(family(e, OpFamily::dense_gemm).bound == StepEstimate::Bound::memory);
  CHECK(family(e, OpFamily::router).seconds == 12);  // 600 / 50: fp32
  CHECK(family(e, OpFamily::optimizer).seconds == 28);
  CHECK(e.compute_seconds == 400);
  CHECK(e.serial_seconds() == 400);
  CHECK(e.overlapped_seconds() == 400);

  Config fp32 = config();
  fp32.run.precision = Precision::fp32;
  CHECK(family(estimate_step(fp32, grid, work(), device(), 1), OpFamily::expert_gemm).seconds == 1500);
}

TEST_CASE("traffic takes its path's bandwidth and a latency a message; rows hide under experts but for one chunk") {
  StepWork w = work();
  add(w, RankGroup::experts, Traffic::dispatch, 4, 4, 72);  // 18 + 2 s by link
  add(w, RankGroup::experts, Traffic::combine, 4, 4, 72);
  Config c = config();
  const StepEstimate e = estimate_step(c, grid, w, device(), 0.5);
  REQUIRE(e.transfers.size() == 2);
  CHECK(e.transfers[0].path == StepEstimate::Path::link);
  CHECK(e.transfers[0].seconds == 20);
  CHECK(e.communication_seconds == 40);
  CHECK(e.hidden_seconds == 30);  // 3 of 4 chunks
  CHECK(e.overlapped_seconds() == 410);

  c.moe.num_experts = 4;  // two of them on each rank: two chunks
  CHECK(estimate_step(c, grid, w, device(), 0.5).hidden_seconds == 20);
  c.parallel.overlap = false;
  CHECK(estimate_step(c, grid, w, device(), 0.5).overlapped_seconds() == 440);
}

TEST_CASE("gradients hide under the backward of the last micro-step but for one bucket") {
  StepWork w = work();
  add(w, RankGroup::world, Traffic::gradients, 4, 8, 72);  // 36 + 4 s by network
  add(w, RankGroup::world, Traffic::weights, 4, 8, 12);    // 6 + 4 s
  const StepEstimate few = estimate_step(config(), grid, w, device(), 0.5);
  CHECK(few.transfers[0].path == StepEstimate::Path::network);
  CHECK(few.communication_seconds == 50);
  CHECK(few.hidden_seconds == 30);

  add(w, RankGroup::world, Traffic::gradients, 4, 0, 2000);  // 1000 s, backward is 2/3 of (400 - 28) / 2 = 124
  const StepEstimate many = estimate_step(config(), grid, w, device(), 0.5);
  CHECK(many.hidden_seconds == Approx(124));
  CHECK(many.overlapped_seconds() == Approx(400 + 1010 - 124));
}

TEST_CASE("overlap never makes a step shorter than its computation or its communication") {
  StepWork w;
  add(w, OpFamily::expert_gemm, 0, 300);                          // 30 s
  add(w, RankGroup::experts, Traffic::dispatch, 4, 0, 400);       // 100 s, of which 30 could hide
  add(w, RankGroup::replicas, Traffic::gradients, 1000, 0, 200);  // 100 s, of which 10 could
  const StepEstimate e = estimate_step(config(), grid, w, device(), 0.5);
  CHECK(e.compute_seconds == 30);
  CHECK(e.hidden_seconds == 30);
  CHECK(e.overlapped_seconds() == 200);
}

TEST_CASE("devices: known by name, the CPU shared by its ranks") {
  CHECK(find_device("h100").bf16_flops == 989.5e12);
  CHECK_THROWS_WITH(find_device("h1000"), Catch::Contains("h1000") && Catch::Contains("a100, h100, h200, b200, cpu"));
  const DeviceSpec half = cpu_device({.bf16_flops = 8e11, .fp32_flops = 4e11, .memory_bytes = 64e9}, 2);
  CHECK(half.bf16_flops == 4e11);
  CHECK(half.memory_bytes == 32e9);
  CHECK(half.per_host == 2);
  CHECK_THROWS_WITH(peak_flops(half, Precision::fp64), Catch::Contains("fp64"));
}
