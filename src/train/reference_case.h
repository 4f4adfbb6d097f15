#pragma once
// A reference file holds one training problem, with every number that a correct trainer must reproduce.
//
// A safetensors file whose metadata holds `config` (JSON: model, objective, optimizer, micro_batches) and `case`, and
// whose tensors are: input.tokens, input.targets [B, S]; param.<p>; grad.<p> (of the total loss); out.logits [B, S, V];
// out.loss, out.term.<t> [1] (absent for a term that the file does not know); out.counts [MoE layers, E];
// out.router_logits [MoE layers, B·S, E]; out.selected [MoE layers, B·S, K]; termgrad.<t>.<p> (of one term alone,
// weight 1; some files); traj.{loss,ce,lr,grad_norm} [total_steps] and traj.param.<p>: total_steps optimizer steps on
// the same batch.
//
// A file that is older than a term lacks the key of its weight, which then is 0.
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "config/config.h"
#include "train/step.h"

namespace strand {

class ReferenceCase {
 public:
  /// Opens and checks a file; throws Error naming file and key or tensor.
  explicit ReferenceCase(const std::string& path);

  const std::string& name() const { return name_; }
  /// train.steps is total_steps. Device and precision are the caller's choice.
  const Config& config() const { return config_; }
  const StepData& data() const { return data_; }
  const SafetensorsFile& file() const { return file_; }
  bool has(const std::string& tensor) const { return file_.find(tensor) != nullptr; }
  /// Elements of an F32 or I32 tensor, widened; throws when it is missing or has another shape.
  std::vector<double> values(const std::string& tensor, const std::vector<int64_t>& shape) const;

 private:
  void read_config();
  void read_batch();

  SafetensorsFile file_;
  std::string name_;
  Config config_;
  StepData data_;
};

}  // namespace strand
