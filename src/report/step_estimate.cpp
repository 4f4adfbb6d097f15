#include "report/step_estimate.h"

#include <algorithm>

#include "config/batch.h"
#include "core/error.h"

namespace strand {

bool within_host(RankGroup group, const GridShape& grid, int64_t per_host) {
  if (size_of(group, grid) == 1 || grid.ranks <= per_host) return true;
  return group == RankGroup::experts && per_host % grid.expert_parallel == 0;
}

double peak_flops(const DeviceSpec& device, Precision precision) {
  require(precision != Precision::fp64, "no device is rated for run.precision fp64; choose fp32 or bf16");
  return precision == Precision::bf16 ? device.bf16_flops : device.fp32_flops;
}

namespace {
using Path = StepEstimate::Path;

StepEstimate::Family family_time(OpFamily family, const PlanCounts& work, const DeviceSpec& device, double flops) {
  const auto i = static_cast<size_t>(family);
  const double arithmetic = work.flops[i] / flops, memory = work.bytes[i] / device.memory_bandwidth;
  using Bound = StepEstimate::Bound;
  return {family, std::max(arithmetic, memory), arithmetic > memory ? Bound::arithmetic : Bound::memory};
}

StepEstimate::Transfer transfer_time(Traffic kind, RankGroup group, const TrafficCounts::Kind& counts,
                                     const GridShape& grid, const DeviceSpec& device) {
  const Path path = within_host(group, grid, device.per_host) ? Path::link : Path::network;
  const double bandwidth = path == Path::link ? device.link_bandwidth : device.network_bandwidth;
  return {kind, group, path,
          counts.sent_bytes / bandwidth + static_cast<double>(counts.messages) * device.message_seconds};
}

double seconds_of(const StepEstimate& e, OpFamily family) {
  double seconds = 0;
  for (const auto& f : e.families) seconds += f.family == family ? f.seconds : 0;
  return seconds;
}

double seconds_of(const StepEstimate& e, Traffic kind) {
  double seconds = 0;
  for (const auto& t : e.transfers) seconds += t.kind == kind ? t.seconds : 0;
  return seconds;
}

/// `seconds` without one of its `parts` equal parts.
double all_but_one(double seconds, int64_t parts) {
  return parts > 0 ? seconds * static_cast<double>(parts - 1) / static_cast<double>(parts) : 0;
}

double hidden_rows(const StepEstimate& e, const Config& config, const GridShape& grid) {
  const int64_t experts = config.moe.num_experts / grid.expert_parallel;
  const double rows =
      seconds_of(e, Traffic::dispatch) + seconds_of(e, Traffic::combine) + seconds_of(e, Traffic::specialization);
  return std::min(all_but_one(rows, std::min(config.parallel.exchange_chunks, experts)),
                  seconds_of(e, OpFamily::expert_gemm) + seconds_of(e, OpFamily::swiglu));
}

double hidden_gradients(const StepEstimate& e, const Config& config, const GridShape& grid, const StepWork& work) {
  const double steps = static_cast<double>(micro_steps_per_rank(config.train, grid.ranks));
  const double backward = 2.0 / 3.0 * (e.compute_seconds - seconds_of(e, OpFamily::optimizer)) / steps;
  const int64_t buckets = work.traffic.total()[Traffic::gradients].calls;
  return std::min(all_but_one(seconds_of(e, Traffic::gradients), buckets), backward);
}
}  // namespace

StepEstimate estimate_step(const Config& config, const GridShape& grid, const StepWork& work, const DeviceSpec& device,
                           double efficiency) {
  StepEstimate e{.device = device, .efficiency = efficiency};
  for (int i = 0; i < op_family_count; ++i) {
    const auto family = static_cast<OpFamily>(i);
    if (work.ops.calls[i] == 0) continue;
    const Precision precision = family == OpFamily::router ? Precision::fp32 : config.run.precision;
    e.families.push_back(family_time(family, work.ops, device, efficiency * peak_flops(device, precision)));
    e.compute_seconds += e.families.back().seconds;
  }
  for (const RankGroup group : {RankGroup::world, RankGroup::experts, RankGroup::replicas}) {
    for (int k = 0; k < traffic_kinds; ++k) {
      const auto kind = static_cast<Traffic>(k);
      const TrafficCounts::Kind& counts = work.traffic[group][kind];
      if (counts.calls == 0) continue;
      e.transfers.push_back(transfer_time(kind, group, counts, grid, device));
      e.communication_seconds += e.transfers.back().seconds;
    }
  }
  if (config.parallel.overlap)
    e.hidden_seconds = std::min({hidden_rows(e, config, grid) + hidden_gradients(e, config, grid, work),
                                 e.compute_seconds, e.communication_seconds});
  return e;
}

}  // namespace strand
