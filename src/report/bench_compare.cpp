// Compares two results: of the same work, or of the same work on another number of ranks.
#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/number_text.h"
#include "report/bench_report.h"
#include "report/table.h"

namespace strand {

namespace {
std::string value_of(const BenchSetup& setup, const std::string& key) {
  const auto found = setup.workload.find(key);
  return found == setup.workload.end() ? "absent" : found->second;
}

/// "name: x here, y there" of everything that differs between two setups and is not in `exempt`.
std::vector<std::string> differences(const BenchSetup& now, const BenchSetup& before,
                                     const std::set<std::string>& exempt) {
  std::vector<std::string> found;
  const auto compare = [&](const std::string& name, const std::string& here, const std::string& there) {
    if (here != there && !exempt.count(name)) found.push_back(fmt::format("{}: {} here, {} there", name, here, there));
  };
  std::set<std::string> keys;
  for (const auto& [key, value] : now.workload) keys.insert(key);
  for (const auto& [key, value] : before.workload) keys.insert(key);
  for (const std::string& key : keys) compare(key, value_of(now, key), value_of(before, key));
  compare("CPU", now.machine.cpu, before.machine.cpu);
  compare("cores", std::to_string(now.machine.cores), std::to_string(before.machine.cores));
  compare("threads", std::to_string(now.threads), std::to_string(before.threads));
  return found;
}

void require_none(const std::vector<std::string>& found, const std::string& origin) {
  if (found.empty()) return;
  std::string text = found[0];
  for (size_t i = 1; i < found.size(); ++i) text += fmt::format("; {}", found[i]);
  fail("not comparable with {}: {}", origin, text);
}

int64_t number_of(const BenchSetup& setup, const std::string& key, const std::string& origin) {
  try {
    return std::stoll(value_of(setup, key));
  } catch (const std::exception&) {
    fail("{}: {} of the workload is {}, not a number", origin, key, value_of(setup, key));
  }
}
}  // namespace

void require_comparable(const BenchSetup& now, const BenchSetup& before, const std::string& origin) {
  require_none(differences(now, before, {}), origin);
}

Scaling scaling_of(const BenchSetup& now, const BenchSetup& before, const std::string& origin) {
  // The number of cores of a process depends on how many processes share a machine. What it computes with does not.
  const std::string ranks = "ranks", batch = "train.global_batch_size";
  require_none(differences(now, before, {ranks, batch, "parallel.expert_parallel", "cores"}), origin);
  const int64_t n = number_of(now, ranks, "this run"), m = number_of(before, ranks, origin);
  require(n != m, "{} is of {} rank{} too: --scaling compares with another number, --against with the same", origin, m,
          m == 1 ? "" : "s");
  const int64_t here = number_of(now, batch, "this run"), there = number_of(before, batch, origin);
  if (here == there) return Scaling::strong;
  require(here * m == there * n,
          "{}: {} {} on {} ranks here, {} on {} there: neither the same batch (strong scaling) nor the same for each "
          "rank (weak scaling)",
          origin, batch, here, n, there, m);
  return Scaling::weak;
}

std::string scaling_text(const BenchReport& now, const BenchReport& before, const std::string& origin) {
  const bool weak = scaling_of(now.setup, before.setup, origin) == Scaling::weak;
  TextTable table({fmt::format("{} scaling from {}", weak ? "weak" : "strong", origin), "before", "now", "efficiency"});
  const auto n = static_cast<double>(number_of(now.setup, "ranks", "this run"));
  const auto m = static_cast<double>(number_of(before.setup, "ranks", origin));
  table.add({"ranks", fmt::format("{:.0f}", m), fmt::format("{:.0f}", n), ""});
  const auto add = [&](const char* name, double then, double here) {
    table.add({name, fmt::format("{:.0f}", then), fmt::format("{:.0f}", here), percent_text(here / n / (then / m))});
  };
  add("tokens a second, best", before.tokens_per_second(best_of(before.step_seconds)),
      now.tokens_per_second(best_of(now.step_seconds)));
  add("tokens a second, median", before.tokens_per_second(median_of(before.step_seconds)),
      now.tokens_per_second(median_of(now.step_seconds)));
  return "\n" + table.text() +
         fmt::format("  (tokens a second of each rank, now over before; {}, {} thread{} each)\n",
                     weak ? "the same batch for each rank" : "the same global batch", now.setup.threads,
                     now.setup.threads == 1 ? "" : "s");
}

std::string comparison_text(const BenchReport& now, const BenchReport& before, const std::string& origin) {
  require_comparable(now.setup, before.setup, origin);
  TextTable table({fmt::format("against {}", origin), "before", "now", "now / before"});
  const auto add = [&](const std::string& name, double then, double here, const char* format) {
    table.add({name, fmt::format(fmt::runtime(format), then), fmt::format(fmt::runtime(format), here),
               then > 0 ? fmt::format("{:.3f}", here / then) : ""});
  };
  if (now.setup.machine.instructions != before.setup.machine.instructions)
    table.add({"instructions", before.setup.machine.instructions, now.setup.machine.instructions, ""});
  add("tokens a second, best", before.tokens_per_second(best_of(before.step_seconds)),
      now.tokens_per_second(best_of(now.step_seconds)), "{:.0f}");
  add("tokens a second, median", before.tokens_per_second(median_of(before.step_seconds)),
      now.tokens_per_second(median_of(now.step_seconds)), "{:.0f}");
  add("peak memory, MiB", static_cast<double>(before.peak_resident_bytes) / (1 << 20),
      static_cast<double>(now.peak_resident_bytes) / (1 << 20), "{:.0f}");
  for (const FamilyTime& f : now.profile.families) {
    const auto& others = before.profile.families;
    const auto same = std::find_if(others.begin(), others.end(), [&](const FamilyTime& g) { return g.name == f.name; });
    if (same != others.end() && (f.calls > 0 || same->calls > 0))
      add(f.name + ", ms", 1e3 * same->seconds, 1e3 * f.seconds, "{:.2f}");
  }
  add("outside operations, ms", 1e3 * before.profile.outside_seconds(), 1e3 * now.profile.outside_seconds(), "{:.2f}");
  return "\n" + table.text();
}

}  // namespace strand
