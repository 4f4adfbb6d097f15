// PlanReport to tables.
#include <fmt/core.h>

#include "config/schema.h"
#include "core/number_text.h"
#include "report/plan_report.h"
#include "report/table.h"

namespace strand {

namespace {
bool alone(const PlanReport& r) {
  return r.grid.ranks == 1;
}

std::string memory_table(const PlanReport& r) {
  TextTable table({alone(r) ? "memory" : "memory of each rank", "bytes", ""});
  const auto add = [&](const char* name, size_t bytes) {
    table.add({name, grouped_digits(static_cast<int64_t>(bytes)), bytes_text(static_cast<double>(bytes))});
  };
  add("weights", r.model.weights);
  add("weights, copies for GEMMs", r.model.act_copies);
  add("gradients", r.model.gradients);
  add("optimizer moments", r.model.moments);
  add("batch, tables, sums", r.model.buffers);
  add("kept for backward (step)", r.session.step.bytes);
  add("scratch", r.session.scratch.bytes);
  add("workspace of operations", r.session.workspace);
  if (r.session.libraries > 0) add("libraries", r.session.libraries);
  add("total", r.session.bytes());
  return table.text();
}

std::string kept_table(const PlanReport& r) {
  TextTable table({"step memory at its peak", "type", "shape", "times", "bytes", "", "share"});
  for (const KeptTensors& k : r.kept) {
    const auto bytes = static_cast<double>(k.bytes);
    table.add({k.name, to_string(k.dtype), k.shape.to_string(), std::to_string(k.count),
               grouped_digits(static_cast<int64_t>(k.bytes)), bytes_text(bytes),
               percent_text(bytes / static_cast<double>(r.session.step.bytes))});
  }
  return table.text();
}

std::string work_table(const PlanReport& r) {
  const auto tokens = static_cast<double>(r.tokens_per_rank());
  TextTable table({alone(r) ? "work" : "work of each rank", "FLOP a token", "FLOP a step", "share", "moved a step",
                   "calls a step"});
  int64_t calls = 0;
  for (int i = 0; i < op_family_count; ++i) {
    const double flops = r.session.work.ops.flops[i];
    calls += r.session.work.ops.calls[i];
    table.add({to_string(static_cast<OpFamily>(i)), si_text(flops / tokens), si_text(flops),
               percent_text(flops / r.session.work.ops.total_flops()), bytes_text(r.session.work.ops.bytes[i]),
               grouped_digits(r.session.work.ops.calls[i])});
  }
  table.add({"total", si_text(r.session.work.ops.total_flops() / tokens), si_text(r.session.work.ops.total_flops()), "",
             bytes_text(r.session.work.ops.total_bytes()), grouped_digits(calls)});
  return table.text();
}

std::string recompute_table(const PlanReport& r) {
  TextTable table({"train.recompute", "step", "scratch", "total memory", "FLOP a token"});
  for (const RecomputeChoice& c : r.choices) {
    const bool chosen = c.recompute == r.config.train.recompute;
    table.add({fmt::format("{}{}", to_string(c.recompute), chosen ? " (chosen)" : ""),
               bytes_text(static_cast<double>(c.step)), bytes_text(static_cast<double>(c.scratch)),
               bytes_text(static_cast<double>(c.total)), si_text(c.flops / static_cast<double>(r.tokens_per_rank()))});
  }
  return table.text();
}

std::string step_line(const PlanReport& r) {
  const Config& c = r.config;
  const std::string where =
      alone(r) ? "one process"
               : fmt::format("{} ranks, experts over {}, replicated {} time{}", r.grid.ranks, r.grid.expert_parallel,
                             r.grid.replicas(), r.grid.replicas() == 1 ? "" : "s");
  return fmt::format("a step on {}: {} tokens in {} micro-step{} of {}{} x {}, {}, recompute {}\n\n", where,
                     grouped_digits(r.tokens_per_step), r.micro_steps, r.micro_steps == 1 ? "" : "s",
                     alone(r) ? "" : fmt::format("{} x ", r.grid.ranks), c.train.micro_batch_size,
                     c.data.sequence_length, to_string(c.run.precision), to_string(c.train.recompute));
}

std::string specialization_line(const PlanReport& r) {
  const double fraction = r.config.losses.sp_token_fraction;
  const TrafficCounts traffic = r.session.work.traffic.total();
  const double rows = traffic[Traffic::specialization].sent_bytes;
  if (rows == 0) return "  SP's rows stay where they are\n";
  return fmt::format("  SP's rows are {} of the {} sent ({}), with losses.sp_token_fraction {}\n", bytes_text(rows),
                     bytes_text(traffic.total().sent_bytes), percent_text(rows / traffic.total().sent_bytes), fraction);
}

std::string traffic_table(const PlanReport& r) {
  TextTable table({"traffic of each rank, a step", "among", "of ranks", "calls", "messages", "payload", "sent"});
  for (int g = 0; g < rank_groups; ++g) {
    for (int k = 0; k < traffic_kinds; ++k) {
      const auto group = static_cast<RankGroup>(g);
      const auto kind = static_cast<Traffic>(k);
      const TrafficCounts::Kind& counts = r.session.work.traffic[group][kind];
      if (counts.calls == 0) continue;
      table.add({to_string(kind), to_string(group), std::to_string(size_of(group, r.grid)),
                 grouped_digits(counts.calls), grouped_digits(counts.messages), bytes_text(counts.payload_bytes),
                 bytes_text(counts.sent_bytes)});
    }
  }
  const TrafficCounts::Kind sum = r.session.work.traffic.total().total();
  table.add({"total", "", "", grouped_digits(sum.calls), grouped_digits(sum.messages), bytes_text(sum.payload_bytes),
             bytes_text(sum.sent_bytes)});
  return table.text() +
         "  (payload: what collectives are handed; sent: what leaves for other ranks, when experts share rows "
         "evenly)\n" +
         specialization_line(r) + "\n";
}

// ---- the estimate ---------------------------------------------------------------------------------------------------

std::string device_text(const StepEstimate& e) {
  const DeviceSpec& d = e.device;
  return fmt::format(
      "estimate for {}: {}FLOP/s bf16, {}FLOP/s fp32, of which matrix products reach {}; memory {}, {}B/s;\n"
      "each rank sends {}B/s within its host of {} rank{}, {}B/s beyond; a message costs {:.1f} us\n\n",
      d.name, si_text(d.bf16_flops), si_text(d.fp32_flops), percent_text(e.efficiency), bytes_text(d.memory_bytes),
      si_text(d.memory_bandwidth), si_text(d.link_bandwidth), d.per_host, d.per_host == 1 ? "" : "s",
      si_text(d.network_bandwidth), 1e6 * d.message_seconds);
}

std::string milliseconds(double seconds) {
  return fixed_text(1e3 * seconds, 2);
}

std::string estimated_parts(const StepEstimate& e) {
  TextTable table({"estimated time, a step", "ms", "share of serial", "set by"});
  const auto add = [&](const std::string& name, double seconds, const std::string& why) {
    table.add({name, milliseconds(seconds), percent_text(seconds / e.serial_seconds()), why});
  };
  for (const auto& f : e.families) add(to_string(f.family), f.seconds, to_string(f.bound));
  for (const auto& t : e.transfers)
    add(fmt::format("{} ({})", to_string(t.kind), to_string(t.group)), t.seconds, to_string(t.path));
  return table.text() + "\n";
}

std::string estimate_text(const PlanReport& r) {
  const StepEstimate& e = *r.estimate;
  TextTable table({"estimated step", "serial", "overlapped"});
  table.add({"computation, ms", milliseconds(e.compute_seconds), milliseconds(e.compute_seconds)});
  table.add({"communication exposed, ms", milliseconds(e.communication_seconds),
             milliseconds(e.communication_seconds - e.hidden_seconds)});
  table.add({"step, ms", milliseconds(e.serial_seconds()), milliseconds(e.overlapped_seconds())});
  table.add({"tokens a second", fixed_text(r.tokens_per_second(e.serial_seconds()), 0),
             fixed_text(r.tokens_per_second(e.overlapped_seconds()), 0)});
  table.add({fmt::format("MFU of the {} peak", to_string(r.config.run.precision)),
             percent_text(r.mfu(e.serial_seconds())), percent_text(r.mfu(e.overlapped_seconds()))});
  return "\n" + device_text(e) + estimated_parts(e) + table.text() +
         "  (an estimate, to compare layouts with: rows evenly shared, nobody waits for a slower rank; overlapped "
         "hides\n"
         "  all that parallel.overlap can hide at best, serial hides nothing)\n";
}
}  // namespace

std::string to_text(const PlanReport& r) {
  const Config& c = r.config;
  std::string text =
      fmt::format("{}: {} parameters (trained weights, each counted once), {} active for a token (in matrices)\n",
                  c.run.name, grouped_digits(r.size.parameters), grouped_digits(r.size.active_parameters));
  text += fmt::format("{} training FLOP a token: 6 x active + causal attention, what MFU counts\n",
                      grouped_digits(static_cast<int64_t>(r.size.training_flops_per_token)));
  text += step_line(r);
  text += memory_table(r) + "\n" + kept_table(r) + "\n" + work_table(r);
  text += "  (matrix products only; bytes are each operation's tensors, read or written once)\n\n";
  if (!alone(r)) text += traffic_table(r);
  return text + recompute_table(r) + (r.estimate ? estimate_text(r) : "");
}

}  // namespace strand
