#pragma once
// Numbers that change from step to step. They live on the device in one vector, so that no operation is enqueued with a
// value that only this step has, and nothing waits for what the device computes about a step: whether it is finite, and
// by how much its gradients are clipped.
#include "core/random.h"
#include "core/tensor.h"

namespace strand {

/// Places in a vector `numbers` [step_number_count] f64.
enum class StepNumber : uint8_t {
  // Given by the host before the step:
  target_share,     ///< 1 / valid targets of the step, all ranks; 0 when there is none
  learning_rate,    ///< of the update
  sample_key_high,  ///< TokenSample's key, its upper and lower 32 bits
  sample_key_low,
  // Kept and computed on the device (ClipGradient):
  updates,         ///< updates that changed the weights, this step's included
  gradient_norm,   ///< 2-norm of all gradients before clipping
  gradient_scale,  ///< what the update multiplies gradients with: the clip factor
  apply,           ///< 1: the update changes the weights; 0: it changes nothing
  halted,          ///< 1: a step was not finite and no later one may change the weights
  // Of the last step that measured them (SumOfUpdates), all ranks:
  squared_update,  ///< Σ of the squares of what the update changed
  squared_weight,  ///< Σ of the squares of the weights after it
};
constexpr int given_step_numbers = 4;
constexpr int step_number_count = 11;

constexpr int64_t place(StepNumber number) {
  return static_cast<int64_t>(number);
}

/// A fixed random sample of tokens: token `index` (counted over the whole step, whatever the layout) belongs to it when
/// random_uniform(key, index) is below `fraction`; the key is that of the step.
struct TokenSample {
  double fraction = 1.0;    ///< in (0, 1]; 1 = every token
  Tensor numbers;           ///< [step_number_count] f64; none when the fraction is 1
  int64_t first_token = 0;  ///< index in the step of the first token of a batch
};

/// What becomes of the run when a step is not finite.
enum class AfterNonfinite : uint8_t {
  halt,  ///< no later step changes the weights either
  skip,  ///< later steps do
};

/// norm = √sum;  scale = max_norm / norm when that is positive and smaller than 1, else 1.
/// apply = 1 when the norm and all terms are finite and the run is not halted; then updates += 1. Otherwise apply = 0,
/// and with `halt` halted = 1.
struct ClipGradient {
  Tensor sum_of_squares;  ///< [1] f64: of all gradients, all ranks
  Tensor terms;           ///< [n] f64: values of the objective, all ranks
  double max_norm = 0;    ///< 0 = never clip
  AfterNonfinite after = AfterNonfinite::halt;
  Tensor numbers;  ///< [step_number_count] f64
  void check() const;
};

}  // namespace strand
