#include "train/rank_report.h"

#include <algorithm>
#include <numeric>

#include "train/logical_values.h"

namespace strand {

RankReport gather_rank_report(ControlChannel& hosts, double seconds, const TrafficCounts& traffic,
                              int64_t expert_rows) {
  const TrafficCounts::Kind total = traffic.total();
  std::vector<double> mine{seconds, static_cast<double>(expert_rows), total.exposed_seconds,
                           std::max(0.0, total.busy_seconds - total.exposed_seconds)};
  for (const TrafficCounts::Kind& kind : traffic.kind) mine.push_back(kind.payload_bytes);
  const std::vector<double> all = gather_values(hosts, mine);

  const auto ranks = static_cast<size_t>(hosts.size());
  const auto column = [&](size_t i) {
    std::vector<double> values;
    for (size_t r = 0; r < ranks; ++r) values.push_back(all[r * mine.size() + i]);
    std::sort(values.begin(), values.end());
    return values;
  };
  const auto mean = [&](size_t i) {
    const std::vector<double> values = column(i);
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(ranks);
  };
  RankReport report;
  const std::vector<double> times = column(0);
  report.fastest = times.front();
  report.median = (times[(ranks - 1) / 2] + times[ranks / 2]) / 2;
  report.slowest = times.back();
  report.mean = mean(0);
  if (mean(1) > 0) report.rows_max_over_mean = column(1).back() / mean(1);
  report.exposed_seconds = mean(2);
  report.hidden_seconds = mean(3);
  for (size_t k = 0; k < report.bytes.size(); ++k) report.bytes[k] = mean(4 + k);
  return report;
}

void add_to(LogRow& row, const RankReport& r) {
  using Members = std::vector<std::pair<std::string_view, double>>;
  Members bytes;
  for (size_t k = 0; k < r.bytes.size(); ++k) bytes.emplace_back(to_string(static_cast<Traffic>(k)), r.bytes[k]);
  row.add_object("step_seconds_by_rank", Members{{"min", r.fastest}, {"median", r.median}, {"max", r.slowest}})
      .add_object("comm_seconds", Members{{"exposed", r.exposed_seconds}, {"hidden", r.hidden_seconds}})
      .add_object("comm_bytes", bytes)
      .add("tokens_by_rank_max_over_mean", r.rows_max_over_mean);
}

}  // namespace strand
