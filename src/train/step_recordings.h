#pragma once
// Keeps recordings of training steps (Device::run), by what their operations depend on. A run has a few forms of steps:
// a step that is logged measures more terms than one that is not.
#include <deque>
#include <memory>
#include <vector>

#include "config/config.h"
#include "kernels/device.h"
#include "kernels/ops/step_numbers.h"
#include "model/objective.h"

namespace strand {

/// Whether a step sums up how far its update moves the weights (SumOfUpdates), which reads them once more.
enum class UpdateSize : uint8_t { not_measured, measured };

/// How a step's gradients change the weights. The learning rate is a number on the device; the rest is part of the
/// operations.
struct Update {
  OptimizerConfig optimizer;
  double learning_rate = 0;
  AfterNonfinite after_nonfinite = AfterNonfinite::halt;
  UpdateSize size = UpdateSize::not_measured;
};

/// All that decides which operations a step enqueues, on which memory, with which arguments. Whatever else changes from
/// step to step lies in device memory.
struct StepForm {
  int64_t tokens = 0;
  std::vector<int64_t> micro_batches;
  Objective objective;
  OptimizerConfig optimizer;
  AfterNonfinite after_nonfinite = AfterNonfinite::halt;
  UpdateSize update_size = UpdateSize::not_measured;
  bool operator==(const StepForm&) const = default;
};

class StepRecordings {
 public:
  explicit StepRecordings(Device& device) : device_(device) {}

  /// Returns the recording of steps of this form, which is new the first time. When there are more forms than can be
  /// kept, the oldest recording goes.
  Device::Recording& of(const StepForm& form);

 private:
  struct Entry {
    StepForm form;
    std::unique_ptr<Device::Recording> recording;
  };

  Device& device_;
  std::deque<Entry> entries_;
};

}  // namespace strand
