#include "cli/bench_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>

#include "checkpoint/manifest.h"
#include "config/batch.h"
#include "config/model_size.h"
#include "config/schema.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/random.h"
#include "model/backend.h"
#include "model/memory_check.h"
#include "train/agreed.h"
#include "train/checkpoint_saver.h"
#include "train/logical_values.h"
#include "train/rank_peak.h"
#include "train/step.h"
#include "train/training_plan.h"

namespace strand::cli {

namespace {
/// Uniform random inputs and targets of one rank in step `index`; the global batch is the same however it is cut.
StepData random_step(const Config& config, const GridShape& grid, int64_t index) {
  const int64_t micro_steps = micro_steps_per_rank(config.train, grid.ranks);
  StepData data{.tokens = config.data.sequence_length};
  data.micro_batches.assign(static_cast<size_t>(micro_steps), config.train.micro_batch_size);
  const uint64_t key = hash_key(config.run.seed, "bench step " + std::to_string(index));
  const auto vocabulary = static_cast<uint64_t>(config.model.vocab_size);
  const int64_t tokens = config.train.micro_batch_size * data.tokens;
  for (int64_t micro_step = 0; micro_step < micro_steps; ++micro_step) {
    const auto first = static_cast<uint64_t>((micro_step * grid.ranks + grid.rank) * tokens);
    for (uint64_t i = first; i < first + static_cast<uint64_t>(tokens); ++i) {
      const uint64_t bits = random_bits(key, i);
      data.inputs.push_back(static_cast<int32_t>((bits & 0xffffffffu) % vocabulary));
      data.targets.push_back(static_cast<int32_t>((bits >> 32) % vocabulary));
    }
  }
  return data;
}

/// One rank's part in several steps.
struct RankSums {
  int64_t steps = 0;
  double seconds = 0, expert_rows = 0;
  TrafficCounts traffic;
};

/// Means over steps, from the sums of all ranks.
RanksResult compare_ranks(ProcessGrid& grid, const RankSums& mine) {
  std::vector<double> numbers{mine.seconds, mine.traffic.total().exposed_seconds, hidden_seconds(mine.traffic.total()),
                              mine.expert_rows};
  for (const TrafficCounts::Kind& k : mine.traffic.kind)
    for (const double x : {static_cast<double>(k.calls), static_cast<double>(k.messages), k.payload_bytes, k.sent_bytes,
                           k.exposed_seconds, hidden_seconds(k)})
      numbers.push_back(x);
  for (double& x : numbers) x /= static_cast<double>(mine.steps);
  const std::vector<double> all = gather_values(grid.control(), numbers);
  const auto ranks = static_cast<size_t>(grid.ranks());
  RanksResult result{.expert_parallel = grid.expert_parallel()};
  std::vector<double> mean(numbers.size());
  for (size_t r = 0; r < ranks; ++r) {
    const double* of_rank = all.data() + r * numbers.size();
    result.each.push_back({of_rank[0], of_rank[1], of_rank[2], of_rank[3]});
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += of_rank[i] / static_cast<double>(ranks);
  }
  for (size_t k = 0; k < traffic_kinds; ++k) {
    const double* m = mean.data() + 4 + 6 * k;
    if (m[0] > 0) result.traffic.push_back({to_string(static_cast<Traffic>(k)), m[0], m[1], m[2], m[3], m[4], m[5]});
  }
  return result;
}

class Bench {
 public:
  Bench(const Config& config, Ops& ops, ProcessGrid& grid, const SessionPlan& plan)
      : config_(config), grid_(grid), session_(ops, grid, config, training_shape(config), plan), runner_(session_) {
    session_.parameters().initialize(ops, config.run.seed);
  }

  /// Seconds of one optimizer step: from when all ranks are there until the last one is done.
  double step(const Objective& objective) {
    const StepData data = random_step(config_, grid_.shape(), index_);
    grid_.control().barrier();
    const double begin = now();
    runner_.step(data, objective, index_++, {.optimizer = config_.optimizer, .learning_rate = config_.optimizer.lr});
    const StepResult result = runner_.take_result();
    const double seconds = now() - begin;
    require(result.finite(), "step {} of the benchmark: loss {}, gradient norm {}; lower optimizer.lr", index_,
            result.terms.loss, result.gradient_norm);
    sums_.traffic += result.traffic;
    sums_.seconds += seconds;
    sums_.expert_rows += static_cast<double>(session_.transformer().expert_rows());
    ++sums_.steps;
    const std::vector<double> all = grid_.control().all_gather(seconds);
    return *std::max_element(all.begin(), all.end());
  }

  /// What the training loop computes in a step that it does not log.
  Objective objective() const { return {.losses = config_.losses, .asked = terms_of_every_step()}; }

  std::vector<double> steps(int64_t count) {
    std::vector<double> seconds;
    for (int64_t i = 0; i < count; ++i) seconds.push_back(step(objective()));
    return seconds;
  }

  /// The same; with several ranks, also how they compare.
  std::vector<double> timed_steps(int64_t count, std::optional<RanksResult>& ranks) {
    sums_ = {};
    std::vector<double> seconds = steps(count);
    if (grid_.ranks() > 1) ranks = compare_ranks(grid_, sums_);
    return seconds;
  }

  StepProfile profiled_steps(int64_t count, const PlanCounts& counts) {
    OpProfile totals;
    session_.ops().attach_profile(&totals);
    const std::vector<double> seconds = steps(count);
    session_.ops().attach_profile(nullptr);
    const auto n = static_cast<double>(count);
    StepProfile profile;
    for (const double s : seconds) profile.step_seconds += s / n;
    for (int i = 0; i < op_family_count; ++i)
      profile.families.push_back({to_string(static_cast<OpFamily>(i)), totals.seconds[i] / n, totals.calls[i] / count,
                                  counts.flops[i], counts.bytes[i]});
    return profile;
  }

  /// Leaves the checkpoint where it was written.
  CheckpointCost checkpoint(const std::string& directory) {
    CheckpointSaver saver(directory, session_, CheckpointSaver::Mode::background, Retention{.keep = 1});
    saver.save({.state = {.step = index_}, .config_yaml = to_yaml(config_)});
    CheckpointCost cost;
    CheckpointSaver::Saved saved = saver.poll();
    while (saved.step < 0) {
      cost.steps_meanwhile.push_back(step(objective()));
      saved = saver.poll();
    }
    for (const auto& [name, digest] : read_manifest(saved.path)) cost.bytes += digest.bytes;
    cost.stall_seconds = saved.stall_seconds;
    cost.write_seconds = saved.write_seconds;
    return cost;
  }

 private:
  Config config_;
  ProcessGrid& grid_;
  Session session_;
  StepRunner runner_;
  int64_t index_ = 0;
  RankSums sums_;
};

/// All four variants in every round, each round beginning with another one, so that a drift of the machine's speed
/// meets them all.
LossesOverhead measure_overhead(const Config& config, Bench& bench, int64_t rounds) {
  LossesOverhead overhead{.sp_weight = config.losses.sp_weight, .cp_weight = config.losses.cp_weight};
  // Without a weight and without anybody who asks for its value, nothing of a term is computed.
  const auto measure = [&](TermSet left_out, std::vector<double>& seconds) {
    Objective objective = bench.objective();
    if (left_out.contains(Term::sp)) objective.losses.sp_weight = 0;
    if (left_out.contains(Term::cp)) objective.losses.cp_weight = 0;
    seconds.push_back(bench.step(objective));
  };
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t variant = (round + i) % 4;
      if (variant == 0) measure({Term::sp, Term::cp}, overhead.neither);
      if (variant == 1) measure({Term::cp}, overhead.sp);
      if (variant == 2) measure({Term::sp}, overhead.cp);
      if (variant == 3) measure({}, overhead.both);
    }
  }
  return overhead;
}

uint64_t most(ControlChannel& hosts, uint64_t bytes) {
  return static_cast<uint64_t>(hosts.all_reduce_max(static_cast<int64_t>(bytes)));
}

/// Other work on the machine only lowers a measured peak, so the best one is the truest.
void raise_peaks(BenchReport& report, Device& device, ControlChannel& hosts) {
  report.fp32_peak = std::max(report.fp32_peak, measure_peak_of_ranks(device, hosts, PeakKind::fp32));
  report.bf16_peak = std::max(report.bf16_peak, measure_peak_of_ranks(device, hosts, PeakKind::bf16));
}

/// What exceeds the peak shows that it was measured too low: measured again, up to three times.
void raise_exceeded_peaks(BenchReport& report, Device& device, ControlChannel& hosts) {
  constexpr int tries = 3;
  for (int i = 0; i < tries; ++i) {
    if (hosts.all_reduce_max(static_cast<int64_t>(!beyond_peak(report).empty())) == 0) return;
    raise_peaks(report, device, hosts);
  }
}
}  // namespace

BenchSetup bench_setup(const Config& config, const Device& device, int ranks) {
  BenchSetup setup{workload_of(config, ranks), this_machine(), device.threads()};
  setup.machine.instructions = device.arithmetic();
  return setup;
}

BenchReport run_bench(const Config& config, const BenchOptions& options, Device& device, ProcessGrid& grid) {
  const bool overhead = options.losses_overhead == MeasureOverhead::yes;
  const LossConfig& losses = config.losses;
  require(!overhead || losses.sp_weight != 0 || losses.cp_weight != 0,
          "the overhead of sp and cp was asked for, but both weights are 0: --set losses.sp_weight=2e-3 --set "
          "losses.cp_weight=1e-3");
  BenchReport report;
  report.setup = bench_setup(config, device, grid.ranks());
  const std::unique_ptr<Ops> backend = device.make_ops();
  const SessionPlan plan = plan_training(config, device.traits(), grid.shape());
  agreed(grid.control(),
         [&] { check_memory(plan, available_to_rank(device, options.local_ranks), training_remedy()); });
  // What a GPU's libraries have taken already is a line of the plan.
  const uint64_t counted = device.shares_host_memory() ? 0 : plan.libraries;
  report.program_bytes = most(grid.control(), device.peak_bytes() - std::min<uint64_t>(counted, device.peak_bytes()));
  raise_peaks(report, device, grid.control());

  Bench bench(config, *backend, grid, plan);
  bench.steps(options.warmup);
  report.step_seconds = bench.timed_steps(options.steps, report.ranks);
  if (overhead) report.losses_overhead = measure_overhead(config, bench, options.steps);
  report.profile = bench.profiled_steps(options.profiled, plan.work.ops);
  report.peak_resident_bytes =
      most(grid.control(), device.peak_bytes());  // a checkpoint's copy in memory is not the plan's
  if (!options.checkpoint_directory.empty()) report.checkpoint = bench.checkpoint(options.checkpoint_directory);
  raise_peaks(report, device, grid.control());

  const ModelSize size = model_size(config);
  report.warmup_steps = options.warmup;
  report.parameters = size.parameters;
  report.active_parameters = size.active_parameters;
  report.training_flops_per_token = size.training_flops_per_token;
  report.tokens_per_step = config.train.global_batch_size * config.data.sequence_length;
  report.peak_used = config.run.precision == Precision::bf16 ? "bf16" : "fp32";
  report.planned_bytes = plan.bytes();
  raise_exceeded_peaks(report, device, grid.control());
  return report;
}

}  // namespace strand::cli
