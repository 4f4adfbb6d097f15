#pragma once
// The result of `strand bench`: how fast training steps are on this machine, where the time goes, and what memory they
// took, with everything needed to compare it to another one.
//
// JSON (`strand bench --json FILE`), one object; times in seconds, sizes in bytes, rates per second:
//   format      "strand bench 1"
//   workload    {key: value}    the configuration's keys that decide the work, values as text ("moe.top_k": "2")
//               also "ranks"
//   machine     {cpu, cores, instructions}    of the first rank, like all that is not said to be of all; instructions:
//               what the kernels and oneDNN use (absent in results of earlier versions)
//   threads, warmup_steps       threads of each rank
//   parameters, active_parameters, training_flops_per_token, tokens_per_step
//   peak        {fp32_flops, bf16_flops, used}     measured multiply-add rates of all ranks at once; `used` names the
//               one MFU refers to
//   step_seconds [...]                             each timed step, un-profiled, in order, until the last rank is done
//   tokens_per_second, mfu      {best, median}     from step_seconds
//   profile     {step_seconds, families: [{name, seconds, calls, flops, bytes}], outside_seconds}
//               means of profiled steps; `flops` and `bytes` are the plan's; outside = the step's rest
//   memory      {program_bytes, planned_bytes, peak_resident_bytes}    of one rank; the peak is that of the largest.
//               program_bytes: what the process had taken of the device's memory before the model (0 in results of
//               earlier versions); planned_bytes come on top of it
//   ranks       absent for one process: bench_ranks.h
//   losses_overhead   absent unless asked for: {sp_weight, cp_weight, neither: [...], sp: [...], cp: [...], both:
//   [...]}
//               seconds of steps with these terms, in alternation; "neither" does not even compute their values
//   checkpoint  absent unless asked for: {bytes, stall_seconds, write_seconds, steps_meanwhile: [...]}
//               one checkpoint written in the background: training waited for the copy (stall), the disk took the rest
// MFU = training_flops_per_token · tokens_per_second / peak (6 FLOP an active parameter, plus causal attention:
// config/model_size.h).
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/config.h"
#include "report/bench_ranks.h"
#include "report/machine.h"

namespace strand {

/// What has to be equal in two results that are compared.
struct BenchSetup {
  std::map<std::string, std::string> workload;
  Machine machine;
  int threads = 0;
};

/// The keys that decide the work: the groups model, moe and losses, the shape of the batch, precision, recomputation
/// and device, and how the work is spread over ranks.
std::map<std::string, std::string> workload_of(const Config& config, int ranks = 1);

struct FamilyTime {
  std::string name;
  double seconds = 0;  ///< this and the others are of one step
  int64_t calls = 0;
  double flops = 0;
  double bytes = 0;
};

struct StepProfile {
  double step_seconds = 0;
  std::vector<FamilyTime> families;
  double outside_seconds() const;  ///< the part of the step that is spent in no operation
};

struct LossesOverhead {
  double sp_weight = 0, cp_weight = 0;
  std::vector<double> neither, sp, cp, both;  ///< seconds a step; index i of each was measured in round i
};

struct CheckpointCost {
  uint64_t bytes = 0;                   ///< on the disk
  double stall_seconds = 0;             ///< training waited for the copy into memory
  double write_seconds = 0;             ///< until it was whole, synced and named
  std::vector<double> steps_meanwhile;  ///< seconds of the steps that began while it was written; may be empty
};

struct BenchReport {
  BenchSetup setup;
  int64_t warmup_steps = 0;
  int64_t parameters = 0, active_parameters = 0, tokens_per_step = 0;
  double training_flops_per_token = 0;
  double fp32_peak = 0, bf16_peak = 0;  ///< FLOP/s
  std::string peak_used;                ///< "fp32" or "bf16"
  std::vector<double> step_seconds;
  StepProfile profile;
  uint64_t program_bytes = 0, planned_bytes = 0, peak_resident_bytes = 0;
  std::optional<RanksResult> ranks;
  std::optional<LossesOverhead> losses_overhead;
  std::optional<CheckpointCost> checkpoint;

  double tokens_per_second(double seconds) const { return static_cast<double>(tokens_per_step) / seconds; }
  size_t rank_count() const { return ranks ? ranks->each.size() : 1; }
  /// Of all ranks.
  double peak() const { return peak_used == "bf16" ? bf16_peak : fp32_peak; }
  double mfu(double seconds) const { return training_flops_per_token * tokens_per_second(seconds) / peak(); }
};

/// Not empty.
double best_of(const std::vector<double>& seconds);
double median_of(std::vector<double> seconds);

/// The figures that exceed the measured peak with which they are compared ("expert GEMM", "MFU"), which shows that the
/// peak was measured too low. Empty when there are none.
std::vector<std::string> beyond_peak(const BenchReport& report);

std::string to_text(const BenchReport& report);
nlohmann::ordered_json to_json(const BenchReport& report);
/// Throws Error naming `origin` when the text is not such a report.
BenchReport bench_report_from_json(const std::string& text, const std::string& origin);

/// Throws Error naming each difference between the setups ("moe.top_k: 2 here, 4 in old.json").
void require_comparable(const BenchSetup& now, const BenchSetup& before, const std::string& origin);
/// Ratios of speed, time by family and memory. Throws Error as require_comparable does.
std::string comparison_text(const BenchReport& now, const BenchReport& before, const std::string& origin);

/// How the batch changes with the number of ranks: the global batch stays the same (strong), or the batch of each rank
/// does (weak).
enum class Scaling : uint8_t { strong, weak };
/// Throws Error that names every other difference between the setups.
Scaling scaling_of(const BenchSetup& now, const BenchSetup& before, const std::string& origin);
/// The tokens a second of each rank, as a share of those before.
std::string scaling_text(const BenchReport& now, const BenchReport& before, const std::string& origin);

}  // namespace strand
