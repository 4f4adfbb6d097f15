#include "train/step_costs.h"

#include <algorithm>

#include "train/logical_values.h"

namespace strand {

StepCosts over_ranks(ControlChannel& hosts, const StepCosts& mine) {
  std::vector<double> sent{mine.peak_bytes, mine.data_seconds};
  if (mine.parts) sent.insert(sent.end(), mine.parts->begin(), mine.parts->end());
  const std::vector<double> all = gather_values(hosts, sent);
  const auto ranks = static_cast<size_t>(hosts.size());
  const auto mean = [&](size_t i) {
    double sum = 0;
    for (size_t rank = 0; rank < ranks; ++rank) sum += all[rank * sent.size() + i];
    return sum / static_cast<double>(ranks);
  };
  StepCosts costs{.data_seconds = mean(1)};
  for (size_t rank = 0; rank < ranks; ++rank) costs.peak_bytes = std::max(costs.peak_bytes, all[rank * sent.size()]);
  if (!mine.parts) return costs;
  costs.parts.emplace();
  for (size_t part = 0; part < step_part_count; ++part) (*costs.parts)[part] = mean(2 + part);
  return costs;
}

void add_to(LogRow& row, const StepCosts& costs) {
  if (costs.parts) {
    std::vector<std::pair<std::string_view, double>> members;
    for (size_t part = 0; part < step_part_count; ++part)
      members.emplace_back(step_part_names[part], (*costs.parts)[part]);
    members.emplace_back("data", costs.data_seconds);
    row.add_object("step_seconds", members);
  }
  row.add("peak_bytes", costs.peak_bytes);
}

}  // namespace strand
