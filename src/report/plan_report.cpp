#include "report/plan_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "model/backend.h"
#include "report/table.h"

namespace strand {

const char* to_string(Precision precision) {
  switch (precision) {
    case Precision::fp64:
      return "fp64";
    case Precision::fp32:
      return "fp32";
    case Precision::bf16:
      return "bf16";
  }
  return "?";
}

const char* to_string(Recompute recompute) {
  switch (recompute) {
    case Recompute::none:
      return "none";
    case Recompute::experts:
      return "experts";
    case Recompute::block:
      return "block";
  }
  return "?";
}

namespace {
SessionShape shape_of(const Config& config) {
  return {Purpose::training, config.train.micro_batch_size, config.data.sequence_length};
}

size_t in_arena(const Tensor& tensor) {
  return (tensor.bytes() + Arena::alignment - 1) / Arena::alignment * Arena::alignment;
}

/// The parameters once more, on an arena of their own, to know which bytes are whose.
ModelMemory model_memory(const Config& config, size_t model_bytes) {
  Arena arena = Arena::counting("model");
  const Parameters parameters(arena, config, NumberTypes::of(config.run.precision), Purpose::training);
  ModelMemory memory;
  for (const Parameter& p : parameters.all()) {
    memory.weights += in_arena(p.master);
    if (p.act.data != p.master.data) memory.act_copies += in_arena(p.act);
    memory.gradients += in_arena(p.gradient);
    memory.moments += in_arena(p.m) + in_arena(p.v);
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

RecomputeChoice choice_of(Config config, Recompute recompute, int64_t row_alignment, StepCounter count_step) {
  config.train.recompute = recompute;
  const SessionPlan plan = plan_session(config, shape_of(config), row_alignment);
  return {recompute, plan.step.bytes, plan.scratch.bytes, plan.bytes(), count_step(config).total_flops()};
}
}  // namespace

PlanReport make_plan_report(const Config& config, StepCounter count_step) {
  RunConfig run = config.run;
  run.device = DeviceKind::plan;
  const int64_t row_alignment = make_backend(run)->row_alignment();
  PlanReport report;
  report.config = config;
  report.size = model_size(config);
  report.micro_steps = config.train.global_batch_size / config.train.micro_batch_size;
  report.tokens_per_step = config.train.global_batch_size * config.data.sequence_length;
  report.session = plan_session(config, shape_of(config), row_alignment);
  report.model = model_memory(config, report.session.model.bytes);
  report.kept = grouped_by_name(report.session.step.records);
  report.step = count_step(config);
  for (const Recompute recompute : {Recompute::none, Recompute::experts, Recompute::block})
    report.choices.push_back(choice_of(config, recompute, row_alignment, count_step));
  return report;
}

namespace {
std::string memory_table(const PlanReport& r) {
  TextTable table({"memory", "bytes", ""});
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
  const auto tokens = static_cast<double>(r.tokens_per_step);
  TextTable table({"work", "FLOP a token", "FLOP a step", "share", "moved a step", "calls a step"});
  int64_t calls = 0;
  for (int i = 0; i < op_family_count; ++i) {
    const double flops = r.step.flops[i];
    calls += r.step.calls[i];
    table.add({to_string(static_cast<OpFamily>(i)), si_text(flops / tokens), si_text(flops),
               percent_text(flops / r.step.total_flops()), bytes_text(r.step.bytes[i]),
               grouped_digits(r.step.calls[i])});
  }
  table.add({"total", si_text(r.step.total_flops() / tokens), si_text(r.step.total_flops()), "",
             bytes_text(r.step.total_bytes()), grouped_digits(calls)});
  return table.text();
}

std::string recompute_table(const PlanReport& r) {
  TextTable table({"train.recompute", "step", "scratch", "total memory", "FLOP a token"});
  for (const RecomputeChoice& c : r.choices) {
    const bool chosen = c.recompute == r.config.train.recompute;
    table.add({fmt::format("{}{}", to_string(c.recompute), chosen ? " (chosen)" : ""),
               bytes_text(static_cast<double>(c.step)), bytes_text(static_cast<double>(c.scratch)),
               bytes_text(static_cast<double>(c.total)), si_text(c.flops / static_cast<double>(r.tokens_per_step))});
  }
  return table.text();
}
}  // namespace

std::string to_text(const PlanReport& r) {
  const Config& c = r.config;
  std::string text = fmt::format("{}: {} parameters, {} active for a token\n", c.run.name,
                                 grouped_digits(r.size.parameters), grouped_digits(r.size.active_parameters));
  text += fmt::format("{} training FLOP a token: 6 x active + causal attention, what MFU counts\n",
                      grouped_digits(static_cast<int64_t>(r.size.training_flops_per_token)));
  text += fmt::format("a step on one process: {} tokens in {} micro-step{} of {} x {}, {}, recompute {}\n\n",
                      grouped_digits(r.tokens_per_step), r.micro_steps, r.micro_steps == 1 ? "" : "s",
                      c.train.micro_batch_size, c.data.sequence_length, to_string(c.run.precision),
                      to_string(c.train.recompute));
  text += memory_table(r) + "\n" + kept_table(r) + "\n" + work_table(r);
  text += "  (matrix products only; bytes are each operation's tensors, read or written once)\n\n";
  return text + recompute_table(r);
}

nlohmann::ordered_json to_json(const PlanReport& r) {
  using json = nlohmann::ordered_json;
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
                        {"flops", r.step.flops[i]},
                        {"bytes", r.step.bytes[i]},
                        {"calls", r.step.calls[i]}});
  for (const RecomputeChoice& choice : r.choices)
    choices.push_back({{"name", to_string(choice.recompute)},
                       {"step", choice.step},
                       {"scratch", choice.scratch},
                       {"total", choice.total},
                       {"flops", choice.flops}});
  return {{"format", "strand plan 1"},
          {"parameters", r.size.parameters},
          {"active_parameters", r.size.active_parameters},
          {"training_flops_per_token", r.size.training_flops_per_token},
          {"precision", to_string(c.run.precision)},
          {"recompute", to_string(c.train.recompute)},
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
            {"total", r.session.bytes()}}},
          {"kept", kept},
          {"families", families},
          {"recompute_choices", choices}};
}

}  // namespace strand
