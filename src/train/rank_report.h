#pragma once
// Compares the ranks of a run in one step: who was slow, and what communication cost. Rows of log.jsonl may have:
//   step_seconds_by_rank           {"min", "median", "max"}
//   comm_seconds                   {"exposed", "hidden"}: that a rank waited for messages, and that they took beside
//                                  its work; means over ranks
//   comm_bytes                     {KIND: payload bytes}, by kind of traffic (parallel/traffic.h), means over ranks
//   tokens_by_rank_max_over_mean   rows that a rank's experts computed: the largest number over the mean; 0 without any
#include <array>

#include "parallel/process_grid.h"
#include "train/run_log.h"

namespace strand {

struct RankReport {
  double fastest = 0, median = 0, slowest = 0, mean = 0;  ///< seconds of the step
  double exposed_seconds = 0, hidden_seconds = 0;
  std::array<double, traffic_kinds> bytes{};
  double rows_max_over_mean = 0;

  /// The share of the time of a step that all ranks together spent waiting. It is never more than 1.
  double exposed_share() const { return mean > 0 ? exposed_seconds / mean : 0; }
};

/// All ranks call this, each with its own seconds and traffic of the step and with the rows of its experts.
RankReport gather_rank_report(ControlChannel& hosts, double seconds, const TrafficCounts& traffic, int64_t expert_rows);

void add_to(LogRow& row, const RankReport& report);

}  // namespace strand
