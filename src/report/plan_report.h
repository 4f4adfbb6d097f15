#pragma once
// What a training run of a configuration takes, before it starts: parameters, memory by lifetime, what forward keeps
// for backward, FLOPs and bytes by operation family, and what the other recomputation settings would take. Memory and
// work come from runs of the real step on the plan backend; nothing here is an estimate of its own.
//
// JSON (`strand plan --json`), one object; bytes and FLOPs are numbers:
//   format            "strand plan 1"
//   parameters, active_parameters, training_flops_per_token      by formula (config/model_size.h), as MFU counts them
//   precision, recompute, micro_steps, micro_batch_size, sequence_length, tokens_per_step
//   memory            weights, act_copies, gradients, moments, buffers, step, scratch, total: bytes
//   kept              [{name, dtype, shape, count, bytes}]        step memory at its peak, summed over layers
//   families          [{name, flops, bytes, calls}]               of one optimizer step
//   recompute_choices [{name, step, scratch, total, flops}]       bytes; FLOPs of one optimizer step
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "config/model_size.h"
#include "model/session.h"

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
  ModelSize size;
  int64_t micro_steps = 0;
  int64_t tokens_per_step = 0;
  SessionPlan session;
  ModelMemory model;
  std::vector<KeptTensors> kept;  ///< largest first, then by name
  PlanCounts step;                ///< of one optimizer step
  std::vector<RecomputeChoice> choices;
};

/// Counts one optimizer step of a configuration (train/step_counts.h; this room does not know the training loop).
using StepCounter = PlanCounts (*)(const Config&);

/// `config` is checked, its vocabulary's size known. Throws Error.
PlanReport make_plan_report(const Config& config, StepCounter count_step);

std::string to_text(const PlanReport& report);
nlohmann::ordered_json to_json(const PlanReport& report);

const char* to_string(Precision precision);
const char* to_string(Recompute recompute);

}  // namespace strand
