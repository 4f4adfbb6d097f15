#include "report/bench_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "config/schema.h"
#include "core/error.h"
#include "core/number_text.h"
#include "report/table.h"

namespace strand {

std::map<std::string, std::string> workload_of(const Config& config, int ranks) {
  const std::set<std::string> groups = {"model", "moe", "losses"};
  const std::set<std::string> single = {"run.device",
                                        "run.precision",
                                        "data.sequence_length",
                                        "train.recompute",
                                        "train.micro_batch_size",
                                        "train.global_batch_size",
                                        "parallel.expert_parallel"};
  std::map<std::string, std::string> workload = {{"ranks", std::to_string(ranks)}};
  std::istringstream yaml(to_yaml(config));  // "group:" lines, "  key: value" lines
  std::string line, group;
  while (std::getline(yaml, line)) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line[0] == '#') continue;
    if (line[0] != ' ') {
      group = line.substr(0, colon);
      continue;
    }
    const size_t begin = line.find_first_not_of(' ');
    const std::string path = fmt::format("{}.{}", group, line.substr(begin, colon - begin));
    const size_t value = line.find_first_not_of(' ', colon + 1);
    if (groups.count(group) || single.count(path))
      workload[path] = value == std::string::npos ? "" : line.substr(value);
  }
  return workload;
}

double StepProfile::outside_seconds() const {
  double inside = 0;
  for (const FamilyTime& f : families) inside += f.seconds;
  return std::max(0.0, step_seconds - inside);
}

double best_of(const std::vector<double>& seconds) {
  return *std::min_element(seconds.begin(), seconds.end());
}

double median_of(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const size_t n = seconds.size();
  return n % 2 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;
}

std::vector<std::string> beyond_peak(const BenchReport& r) {
  std::vector<std::string> names;
  if (!r.step_seconds.empty() && r.mfu(best_of(r.step_seconds)) > 1) names.push_back("MFU");
  for (const FamilyTime& f : r.profile.families)
    if (f.calls > 0 && f.flops / f.seconds > r.peak() / static_cast<double>(r.rank_count())) names.push_back(f.name);
  return names;
}

namespace {
/// A remark about figures that exceed their own limit, or "".
std::string doubt(const BenchReport& r) {
  std::string names;
  for (const std::string& name : beyond_peak(r)) names += (names.empty() ? "" : ", ") + name;
  if (names.empty()) return "";
  return fmt::format(
      "  MORE THAN THE PEAK: {}. So the peak was measured too low, also when it was measured again, and "
      "MFU and shares of the\n  peak are too high; other programs may have been running.\n",
      names);
}

std::string heading(const BenchReport& r) {
  const std::map<std::string, std::string>& w = r.setup.workload;
  const auto value = [&](const char* key) {
    const auto found = w.find(key);
    return found == w.end() ? std::string("?") : found->second;
  };
  std::string text = fmt::format(
      "{} parameters (trained weights, each counted once), {} active for a token (in matrices); {} tokens a step ({} x "
      "{}, micro-batch {})\n",
      grouped_digits(r.parameters), grouped_digits(r.active_parameters), grouped_digits(r.tokens_per_step),
      value("train.global_batch_size"), value("data.sequence_length"), value("train.micro_batch_size"));
  const std::string spread =
      r.ranks ? fmt::format("{} ranks, experts over {}, each ", r.rank_count(), r.ranks->expert_parallel) : "";
  text +=
      fmt::format("{}, recompute {}, {}{} thread{} of {} cores, {}\n", value("run.precision"), value("train.recompute"),
                  spread, r.setup.threads, r.setup.threads == 1 ? "" : "s", r.setup.machine.cores, r.setup.machine.cpu);
  if (!r.setup.machine.instructions.empty())
    text += fmt::format("{}: {}\n", value("run.device") == "cpu" ? "instructions of the kernels" : "device",
                        r.setup.machine.instructions);
  return text + fmt::format("measured multiply-add peak: fp32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s\n\n",
                            r.fp32_peak / 1e9, r.bf16_peak / 1e9);
}

std::string speed_table(const BenchReport& r) {
  TextTable table({fmt::format("{} steps, {} before", r.step_seconds.size(), r.warmup_steps), "best", "median"});
  const double best = best_of(r.step_seconds), median = median_of(r.step_seconds);
  table.add({"seconds a step", fixed_text(best, 4), fixed_text(median, 4)});
  table.add({"tokens a second", fixed_text(r.tokens_per_second(best), 0),
             fixed_text(r.tokens_per_second(median), 0)});
  table.add({fmt::format("MFU of the {} peak", r.peak_used), percent_text(r.mfu(best)), percent_text(r.mfu(median))});
  return table.text() + fmt::format("  (MFU counts {} FLOP a token: 6 x active parameters + causal attention)\n\n",
                                    grouped_digits(static_cast<int64_t>(r.training_flops_per_token)));
}

std::string profile_table(const BenchReport& r) {
  const StepProfile& p = r.profile;
  const double peak = r.peak() / static_cast<double>(r.rank_count());
  TextTable table({r.ranks ? "time in profiled steps, first rank" : "time in profiled steps", "ms", "share", "calls",
                   "GFLOP", "GFLOP/s", "of peak", "GB/s"});
  for (const FamilyTime& f : p.families) {
    if (f.calls == 0) continue;
    const double rate = f.flops / f.seconds;
    const bool products = f.flops > 0;
    table.add({f.name, fixed_text(1e3 * f.seconds, 2), percent_text(f.seconds / p.step_seconds),
               grouped_digits(f.calls), products ? fixed_text(f.flops / 1e9, 2) : "",
               products ? fixed_text(rate / 1e9, 0) : "", products ? percent_text(rate / peak) : "",
               fixed_text(f.bytes / f.seconds / 1e9, 1)});
  }
  table.add({r.ranks ? "outside operations, waiting" : "outside operations",
             fixed_text(1e3 * p.outside_seconds(), 2), percent_text(p.outside_seconds() / p.step_seconds), "",
             "", "", "", ""});
  table.add({"step", fixed_text(1e3 * p.step_seconds, 2), "", "", "", "", "", ""});
  return table.text() + "  (GB/s counts what operations read and write, also where it stays in a cache)\n" + doubt(r) +
         "\n";
}

std::string memory_table(const BenchReport& r) {
  const auto program = static_cast<double>(r.program_bytes), planned = static_cast<double>(r.planned_bytes),
             resident = static_cast<double>(r.peak_resident_bytes);
  TextTable table({r.ranks ? "memory of a rank" : "memory", "bytes", ""});
  const auto add = [&](const char* name, double bytes, const std::string& more) {
    table.add({name, grouped_digits(static_cast<int64_t>(bytes)), more});
  };
  add("program, before the model", program, bytes_text(program));
  add("planned", planned, bytes_text(planned));
  add("peak of the process", resident, bytes_text(resident));
  add("beyond program and plan", resident - program - planned, percent_text(resident / (program + planned) - 1));
  return table.text();
}

std::string overhead_table(const LossesOverhead& o) {
  TextTable table({"overhead of losses", "best, ms", "median, ms", "by best", "by median", "median of rounds"});
  const auto add = [&](const char* name, const std::vector<double>& seconds) {
    std::vector<double> ratios;
    for (size_t i = 0; i < seconds.size(); ++i) ratios.push_back(seconds[i] / o.neither[i]);
    table.add({name, fmt::format("{:.2f}", 1e3 * best_of(seconds)), fmt::format("{:.2f}", 1e3 * median_of(seconds)),
               fmt::format("{:+.2f} %", 100 * (best_of(seconds) / best_of(o.neither) - 1)),
               fmt::format("{:+.2f} %", 100 * (median_of(seconds) / median_of(o.neither) - 1)),
               fmt::format("{:+.2f} %", 100 * (median_of(ratios) - 1))});
  };
  add("neither", o.neither);
  add("sp", o.sp);
  add("cp", o.cp);
  add("sp + cp", o.both);
  return "\n" + table.text() +
         fmt::format("  (sp {} and cp {}, {} rounds of all four; values and gradients, against steps with neither)\n",
                     o.sp_weight, o.cp_weight, o.neither.size());
}

std::string checkpoint_table(const BenchReport& r) {
  const CheckpointCost& c = *r.checkpoint;
  TextTable table({"a checkpoint in the background", "", ""});
  table.add({"size", grouped_digits(static_cast<int64_t>(c.bytes)), bytes_text(static_cast<double>(c.bytes))});
  table.add({"training waited, ms", fixed_text(1e3 * c.stall_seconds, 2),
             percent_text(c.stall_seconds / median_of(r.step_seconds)) + " of a step"});
  table.add({"the disk took, ms", fixed_text(1e3 * c.write_seconds, 2), ""});
  if (!c.steps_meanwhile.empty())
    table.add({"median step meanwhile, ms", fmt::format("{:.2f}", 1e3 * median_of(c.steps_meanwhile)),
               fmt::format("{:+.2f} %", 100 * (median_of(c.steps_meanwhile) / median_of(r.step_seconds) - 1))});
  return "\n" + table.text();
}
}  // namespace

std::string to_text(const BenchReport& r) {
  return heading(r) + speed_table(r) + (r.ranks ? ranks_text(*r.ranks) : "") + profile_table(r) + memory_table(r) +
         (r.losses_overhead ? overhead_table(*r.losses_overhead) : "") + (r.checkpoint ? checkpoint_table(r) : "");
}

}  // namespace strand
