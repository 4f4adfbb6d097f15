// PlanReport to JSON.
#include <nlohmann/json.hpp>

#include "config/schema.h"
#include "report/plan_report.h"

namespace strand {

namespace {
using json = nlohmann::ordered_json;

json traffic_json(const GroupTraffic& traffic) {
  json rows = json::array();
  for (int g = 0; g < rank_groups; ++g) {
    for (int k = 0; k < traffic_kinds; ++k) {
      const auto group = static_cast<RankGroup>(g);
      const auto kind = static_cast<Traffic>(k);
      const TrafficCounts::Kind& counts = traffic[group][kind];
      if (counts.calls == 0) continue;
      rows.push_back({{"group", to_string(group)},
                      {"kind", to_string(kind)},
                      {"calls", counts.calls},
                      {"messages", counts.messages},
                      {"payload_bytes", counts.payload_bytes},
                      {"sent_bytes", counts.sent_bytes}});
    }
  }
  return rows;
}

json speed_json(const PlanReport& r, double seconds) {
  return {{"seconds", seconds}, {"tokens_per_second", r.tokens_per_second(seconds)}, {"mfu", r.mfu(seconds)}};
}

json estimate_json(const PlanReport& r) {
  const StepEstimate& e = *r.estimate;
  const DeviceSpec& d = e.device;
  json families = json::array(), transfers = json::array();
  for (const auto& f : e.families)
    families.push_back({{"name", to_string(f.family)}, {"seconds", f.seconds}, {"bound", to_string(f.bound)}});
  for (const auto& t : e.transfers)
    transfers.push_back({{"group", to_string(t.group)},
                         {"kind", to_string(t.kind)},
                         {"path", to_string(t.path)},
                         {"seconds", t.seconds}});
  return {{"device",
           {{"name", d.name},
            {"bf16_flops", d.bf16_flops},
            {"fp32_flops", d.fp32_flops},
            {"memory_bytes", d.memory_bytes},
            {"memory_bandwidth", d.memory_bandwidth},
            {"link_bandwidth", d.link_bandwidth},
            {"network_bandwidth", d.network_bandwidth},
            {"message_seconds", d.message_seconds},
            {"ranks_per_host", d.per_host}}},
          {"efficiency", e.efficiency},
          {"memory_fits", r.fits()},
          {"families", families},
          {"traffic", transfers},
          {"compute_seconds", e.compute_seconds},
          {"communication_seconds", e.communication_seconds},
          {"hidden_seconds", e.hidden_seconds},
          {"serial", speed_json(r, e.serial_seconds())},
          {"overlapped", speed_json(r, e.overlapped_seconds())}};
}
}  // namespace

json to_json(const PlanReport& r) {
  const Config& c = r.config;
  json kept = json::array(), families = json::array(), choices = json::array();
  for (const KeptTensors& k : r.kept) {
    json shape = json::array();
    for (int i = 0; i < k.shape.rank(); ++i) shape.push_back(k.shape[i]);
    kept.push_back(
        {{"name", k.name}, {"dtype", to_string(k.dtype)}, {"shape", shape}, {"count", k.count}, {"bytes", k.bytes}});
  }
  for (int i = 0; i < op_family_count; ++i)
    families.push_back({{"name", to_string(static_cast<OpFamily>(i))},
                        {"flops", r.session.work.ops.flops[i]},
                        {"bytes", r.session.work.ops.bytes[i]},
                        {"calls", r.session.work.ops.calls[i]}});
  for (const RecomputeChoice& choice : r.choices)
    choices.push_back({{"name", to_string(choice.recompute)},
                       {"step", choice.step},
                       {"scratch", choice.scratch},
                       {"total", choice.total},
                       {"flops", choice.flops}});
  json j = {
      {"format", "strand plan 2"},
      {"parameters", r.size.parameters},
      {"active_parameters", r.size.active_parameters},
      {"training_flops_per_token", r.size.training_flops_per_token},
      {"precision", to_string(c.run.precision)},
      {"recompute", to_string(c.train.recompute)},
      {"grid", {{"ranks", r.grid.ranks}, {"expert_parallel", r.grid.expert_parallel}, {"replicas", r.grid.replicas()}}},
      {"micro_steps", r.micro_steps},
      {"micro_batch_size", c.train.micro_batch_size},
      {"sequence_length", c.data.sequence_length},
      {"tokens_per_step", r.tokens_per_step},
      {"memory",
       {{"weights", r.model.weights},
        {"act_copies", r.model.act_copies},
        {"gradients", r.model.gradients},
        {"moments", r.model.moments},
        {"buffers", r.model.buffers},
        {"step", r.session.step.bytes},
        {"scratch", r.session.scratch.bytes},
        {"workspace", r.session.workspace},
        {"libraries", r.session.libraries},
        {"total", r.session.bytes()}}},
      {"kept", kept},
      {"families", families},
      {"traffic", traffic_json(r.session.work.traffic)},
      {"recompute_choices", choices}};
  if (r.estimate) j["estimate"] = estimate_json(r);
  return j;
}

}  // namespace strand
