#include "report/plan_report.h"

#include <algorithm>

#include "config/batch.h"

namespace strand {

namespace {
/// The parameters once more, on an arena of their own, to know which bytes are whose.
ModelMemory model_memory(const Config& config, const GridShape& grid, size_t model_bytes) {
  Arena arena = Arena::counting("model");
  const Parameters parameters(arena, config, NumberTypes::of(config.run.precision), Purpose::training, grid);
  ModelMemory memory;
  for (const Bucket& b : parameters.buckets()) {
    const bool copies = b.weights.dtype != b.master.dtype;
    memory.weights += copies ? b.master.bytes() : b.weights.bytes();
    if (copies) memory.act_copies += b.weights.bytes();
    memory.gradients += b.gradients.bytes();
    memory.moments += b.m.bytes() + b.v.bytes();
  }
  memory.buffers = model_bytes - memory.total();
  return memory;
}

std::vector<KeptTensors> grouped_by_name(const std::vector<Arena::Record>& records) {
  std::vector<KeptTensors> groups;
  for (const Arena::Record& record : records) {
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const KeptTensors& g) { return g.name == record.name && g.dtype == record.dtype; });
    if (group == groups.end()) group = groups.insert(group, {record.name, record.dtype, record.shape});
    ++group->count;
    group->bytes += record.bytes;
  }
  // A total order (stable_sort's buffer is deprecated in C++17's library, and clang says so).
  std::sort(groups.begin(), groups.end(), [](const KeptTensors& a, const KeptTensors& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.name < b.name;
  });
  return groups;
}

RecomputeChoice choice_of(const RecomputePlan& p) {
  return {p.recompute, p.plan.step.bytes, p.plan.scratch.bytes, p.plan.bytes(), p.plan.work.ops.total_flops()};
}
}  // namespace

PlanReport make_plan_report(const Config& config, const GridShape& grid, const std::vector<RecomputePlan>& plans) {
  PlanReport report;
  report.config = config;
  report.size = model_size(config);
  report.grid = grid;
  report.micro_steps = micro_steps_per_rank(config.train, grid.ranks);
  report.tokens_per_step = config.train.global_batch_size * config.data.sequence_length;
  for (const RecomputePlan& p : plans) {
    if (p.recompute == config.train.recompute) report.session = p.plan;
    report.choices.push_back(choice_of(p));
  }
  report.model = model_memory(config, grid, report.session.model.bytes);
  report.kept = grouped_by_name(report.session.step.records);
  return report;
}

double PlanReport::mfu(double seconds) const {
  const double peak = peak_flops(estimate->device, config.run.precision) * grid.ranks;
  return size.training_flops_per_token * tokens_per_second(seconds) / peak;
}

bool PlanReport::fits() const {
  return static_cast<double>(session.bytes()) <= estimate->device.memory_bytes;
}

}  // namespace strand
