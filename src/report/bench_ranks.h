#pragma once
// What a result of `strand bench` has in addition with several ranks: how far the ranks differ, and what their
// communication costs.
//
// JSON, the object "ranks" of a result (bench_report.h), absent for one process; of one step, means over timed steps:
//   expert_parallel  ranks over which experts are spread
//   each             [{step_seconds, exposed_seconds, hidden_seconds, expert_rows}]   by rank
//                    exposed: it waited for communication; hidden: communication beside its work; rows: those that its
//                    experts computed, forward
//   traffic          [{kind, calls, messages, payload_bytes, sent_bytes, exposed_seconds, hidden_seconds}]  means over
//                    ranks; kinds without calls are left out (parallel/traffic.h)
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "parallel/traffic.h"

namespace strand {

struct RankTime {
  double step_seconds = 0;  ///< from the barrier before a step to its end on this rank
  double exposed_seconds = 0, hidden_seconds = 0;
  double expert_rows = 0;
};

struct KindTime {
  std::string kind;
  double calls = 0, messages = 0;
  double payload_bytes = 0, sent_bytes = 0;
  double exposed_seconds = 0, hidden_seconds = 0;
};

struct RanksResult {
  int expert_parallel = 1;
  std::vector<RankTime> each;
  std::vector<KindTime> traffic;
};

/// The part of the time of collectives in which the training thread did not wait.
double hidden_seconds(const TrafficCounts::Kind& counts);

std::string ranks_text(const RanksResult& ranks);
nlohmann::ordered_json to_json(const RanksResult& ranks);
/// Throws nlohmann::json::exception when `j` is not such an object.
RanksResult ranks_from(const nlohmann::ordered_json& j);

}  // namespace strand
