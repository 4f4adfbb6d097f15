#pragma once
// What a training run of a configuration takes, before it starts: parameters, memory by lifetime, what forward keeps
// for backward, FLOPs and bytes by operation family, messages and bytes between ranks, and what the other recomputation
// settings would take. Memory, work and traffic are those of one rank and come from runs of the real step on the plan
// backend; all ranks are alike, as rows are taken to be shared evenly among experts. Only the time that all this may
// take on a device of the table is an estimate (step_estimate.h).
//
// JSON (`strand plan --json`), one object; bytes and FLOPs are numbers:
//   format            "strand plan 2"
//   parameters, active_parameters, training_flops_per_token      by formula (config/model_size.h), as MFU counts them
//   precision, recompute, micro_batch_size, sequence_length
//   grid              {ranks, expert_parallel, replicas}
//   micro_steps       of each rank, in one optimizer step
//   tokens_per_step   of all ranks
//   memory            weights, act_copies, gradients, moments, buffers, step, scratch, workspace, libraries, total:
//                     bytes
//   kept              [{name, dtype, shape, count, bytes}]        step memory at its peak, summed over layers
//   families          [{name, flops, bytes, calls}]               of one optimizer step
//   traffic           [{group, kind, calls, messages, payload_bytes, sent_bytes}]  of one optimizer step; without calls
//                     left out (parallel/traffic.h says what is counted)
//   recompute_choices [{name, step, scratch, total, flops}]       bytes; FLOPs of one optimizer step
//   estimate          absent unless a device was named:
//                     {device: {name, bf16_flops, fp32_flops, memory_bytes, memory_bandwidth, link_bandwidth,
//                     network_bandwidth, message_seconds, ranks_per_host}, efficiency, memory_fits,
//                     families: [{name, seconds, bound}], traffic: [{group, kind, path, seconds}], compute_seconds,
//                     communication_seconds, hidden_seconds,
//                     serial, overlapped: {seconds, tokens_per_second, mfu}}
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/model_size.h"
#include "model/session.h"
#include "report/step_estimate.h"

namespace strand {

/// The model's memory by what it is for; bytes as the arena rounds them.
struct ModelMemory {
  size_t weights = 0;     ///< master copies
  size_t act_copies = 0;  ///< what GEMMs read, when it is not the master copy (bf16)
  size_t gradients = 0;
  size_t moments = 0;
  size_t buffers = 0;  ///< the rest of the model arena: rotary table, router biases, batch, sums

  size_t total() const { return weights + act_copies + gradients + moments + buffers; }
};

/// Tensors of one name in the step arena at its peak.
struct KeptTensors {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;  ///< of the first
  int64_t count = 0;
  size_t bytes = 0;  ///< of all
};

struct RecomputeChoice {
  Recompute recompute = Recompute::none;
  size_t step = 0, scratch = 0, total = 0;
  double flops = 0;  ///< of one optimizer step
};

struct PlanReport {
  Config config;
  GridShape grid;
  ModelSize size;
  int64_t micro_steps = 0;      ///< of each rank
  int64_t tokens_per_step = 0;  ///< of all ranks
  SessionPlan session;          ///< its work is one optimizer step of one rank
  ModelMemory model;
  std::vector<KeptTensors> kept;  ///< largest first, then by name
  std::vector<RecomputeChoice> choices;
  std::optional<StepEstimate> estimate;

  int64_t tokens_per_rank() const { return tokens_per_step / grid.ranks; }
  double tokens_per_second(double seconds) const { return static_cast<double>(tokens_per_step) / seconds; }
  /// Only with an estimate, like the next.
  double mfu(double seconds) const;
  bool fits() const;
};

/// What training takes with one setting of train.recompute (train/training_plan.h).
struct RecomputePlan {
  Recompute recompute = Recompute::none;
  SessionPlan plan;
};

/// The report, without an estimate. `plans` are those of all settings of train.recompute, that of `config` among them.
/// `config` is checked, its vocabulary's size known.
PlanReport make_plan_report(const Config& config, const GridShape& grid, const std::vector<RecomputePlan>& plans);

std::string to_text(const PlanReport& report);
nlohmann::ordered_json to_json(const PlanReport& report);

}  // namespace strand
