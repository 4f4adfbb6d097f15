#include "cli/bench_run.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>

#include "checkpoint/manifest.h"
#include "config/model_size.h"
#include "config/schema.h"
#include "core/error.h"
#include "core/random.h"
#include "kernels/cpu/peak.h"
#include "model/backend.h"
#include "model/memory_check.h"
#include "report/term_switch.h"
#include "train/checkpoint_saver.h"
#include "train/step.h"
#include "train/step_counts.h"

namespace strand::cli {

namespace {
double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

SessionShape shape_of(const Config& config) {
  return {Purpose::training, config.train.micro_batch_size, config.data.sequence_length};
}

/// Uniform random inputs and targets of this rank's part of step `index`.
StepData random_step(const Config& config, const GridShape& grid, int64_t index) {
  const TrainConfig& train = config.train;
  StepData data{.tokens = config.data.sequence_length};
  const int64_t sequences = train.global_batch_size / grid.ranks;
  data.micro_batches.assign(static_cast<size_t>(sequences / train.micro_batch_size), train.micro_batch_size);
  const auto tokens = static_cast<size_t>(sequences * data.tokens);
  const uint64_t key = hash_key(config.run.seed, fmt::format("bench step {} rank {}", index, grid.rank));
  const auto vocabulary = static_cast<uint64_t>(config.model.vocab_size);
  for (size_t i = 0; i < tokens; ++i) {
    const uint64_t bits = random_bits(key, i);
    data.inputs.push_back(static_cast<int32_t>((bits & 0xffffffffu) % vocabulary));
    data.targets.push_back(static_cast<int32_t>((bits >> 32) % vocabulary));
  }
  return data;
}

class Bench {
 public:
  Bench(const Config& config, Ops& ops, ProcessGrid& grid)
      : config_(config), grid_(grid), session_(ops, grid, config, shape_of(config)), runner_(session_) {
    session_.parameters().initialize(ops, config.run.seed);
  }

  /// Seconds of one optimizer step.
  double step(const LossConfig& losses) {
    const StepData data = random_step(config_, grid_.shape(), index_);
    const double begin = now();
    const StepTerms terms = runner_.accumulate(data, {.losses = losses}, index_++);
    const double norm = runner_.gradient_norm();
    runner_.update(config_.optimizer, config_.optimizer.lr, StepRunner::clip_factor(norm, config_.optimizer.clip_norm));
    session_.ops().synchronize();
    const double seconds = now() - begin;
    require(std::isfinite(terms.loss) && std::isfinite(norm),
            "step {} of the benchmark: loss {}, gradient norm {}; lower optimizer.lr", index_, terms.loss, norm);
    return seconds;
  }

  std::vector<double> steps(int64_t count) {
    std::vector<double> seconds;
    for (int64_t i = 0; i < count; ++i) seconds.push_back(step(config_.losses));
    return seconds;
  }

  StepProfile profiled_steps(int64_t count) {
    OpProfile totals;
    session_.ops().attach_profile(&totals);
    const std::vector<double> seconds = steps(count);
    session_.ops().attach_profile(nullptr);
    const PlanCounts counts = count_step(config_).ops;
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
      cost.steps_meanwhile.push_back(step(config_.losses));
      saved = saver.poll();
    }
    for (const auto& [name, digest] : read_manifest(saved.path)) cost.bytes += digest.bytes;
    cost.stall_seconds = saved.stall_seconds;
    cost.write_seconds = saved.write_seconds;
    return cost;
  }

  size_t planned_bytes() const { return session_.plan().bytes(); }

 private:
  Config config_;
  ProcessGrid& grid_;
  Session session_;
  StepRunner runner_;
  int64_t index_ = 0;
};

/// All four variants in every round, each round beginning with another one, so that a drift of the machine's speed
/// meets them all.
LossesOverhead measure_overhead(const Config& config, Bench& bench, TermSwitch& terms, int64_t rounds) {
  LossesOverhead overhead{.sp_weight = config.losses.sp_weight, .cp_weight = config.losses.cp_weight};
  const auto measure = [&](Computed sp, Computed cp, std::vector<double>& seconds) {
    LossConfig losses = config.losses;
    if (sp == Computed::no) losses.sp_weight = 0;
    if (cp == Computed::no) losses.cp_weight = 0;
    terms.specialization(sp);
    terms.coupling(cp);
    seconds.push_back(bench.step(losses));
  };
  constexpr Computed yes = Computed::yes, no = Computed::no;
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t variant = (round + i) % 4;
      if (variant == 0) measure(no, no, overhead.neither);
      if (variant == 1) measure(yes, no, overhead.sp);
      if (variant == 2) measure(no, yes, overhead.cp);
      if (variant == 3) measure(yes, yes, overhead.both);
    }
  }
  terms.specialization(yes);
  terms.coupling(yes);
  return overhead;
}

void raise_peaks(BenchReport& report) {
  report.fp32_peak = std::max(report.fp32_peak, measure_peak(PeakKind::fp32).flops);
  report.bf16_peak = std::max(report.bf16_peak, measure_peak(PeakKind::bf16).flops);
}
}  // namespace

BenchSetup bench_setup(const Config& config) {
  make_backend(config.run);
  return {workload_of(config), this_machine(), omp_get_max_threads()};
}

BenchReport run_bench(const Config& config, const BenchOptions& options, ProcessGrid& grid) {
  const bool overhead = options.losses_overhead == MeasureOverhead::yes;
  const LossConfig& losses = config.losses;
  require(!overhead || losses.sp_weight != 0 || losses.cp_weight != 0,
          "the overhead of sp and cp was asked for, but both weights are 0: --set losses.sp_weight=2e-3 --set "
          "losses.cp_weight=1e-3");
  const int64_t per_micro_step = grid.ranks() * config.train.micro_batch_size;
  require(config.train.global_batch_size % per_micro_step == 0,
          "train.global_batch_size {} does not divide into micro-batches of {} on {} ranks",
          config.train.global_batch_size, config.train.micro_batch_size, grid.ranks());
  BenchReport report;
  report.setup = bench_setup(config);
  const std::unique_ptr<Ops> backend = make_backend(config.run);
  check_memory(plan_session(config, shape_of(config), backend->row_alignment()));
  raise_peaks(report);

  TermSwitch terms(*backend);
  Bench bench(config, overhead ? static_cast<Ops&>(terms) : *backend, grid);
  bench.steps(options.warmup);
  report.step_seconds = bench.steps(options.steps);
  if (overhead) report.losses_overhead = measure_overhead(config, bench, terms, options.steps);
  report.profile = bench.profiled_steps(options.profiled);
  report.peak_resident_bytes = peak_resident_bytes();  // a checkpoint's copy in memory is not the plan's
  if (!options.checkpoint_directory.empty()) report.checkpoint = bench.checkpoint(options.checkpoint_directory);
  // Other work on the machine only lowers a measured peak, so the better of before and after is the truer one.
  raise_peaks(report);

  const ModelSize size = model_size(config);
  report.warmup_steps = options.warmup;
  report.parameters = size.parameters;
  report.active_parameters = size.active_parameters;
  report.training_flops_per_token = size.training_flops_per_token;
  report.tokens_per_step = config.train.global_batch_size * config.data.sequence_length;
  report.peak_used = config.run.precision == Precision::bf16 ? "bf16" : "fp32";
  report.planned_bytes = bench.planned_bytes();
  return report;
}

}  // namespace strand::cli
