#pragma once
// One optimizer step: accumulate gradients over micro-steps, take the norm, clip, update.
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "model/session.h"
#include "train/gradient_reduction.h"

namespace strand {

/// The sequences of one optimizer step on this rank, in order.
struct StepData {
  int64_t tokens = 0;                  ///< S, in each sequence
  std::vector<int64_t> micro_batches;  ///< sequences in each micro-step
  std::vector<int32_t> inputs;         ///< [Σ micro_batches · S]
  std::vector<int32_t> targets;        ///< likewise; below 0 = ignored
  int64_t sequences() const;
  int64_t valid_targets() const;
};

/// Of a step whose micro-steps are those of all ranks together: rank `rank`'s, which takes that part of each (as in
/// data_feed.h). Throws Error when a micro-step does not divide.
StepData part_of_rank(const StepData& whole, int rank, int ranks);

/// Values of the objective over a whole step, all ranks: unweighted terms and their weighted sum.
struct StepTerms {
  TermSet measured;                        ///< the others are 0
  std::array<double, term_count> value{};  ///< by term
  double loss = 0;
  double operator[](Term term) const { return value[static_cast<size_t>(term)]; }

  /// body(name, value) for each measured term, in the order of the table.
  template <typename Body>
  void for_each_measured(const Body& body) const {
    for (const TermRow& row : term_table)
      if (measured.contains(row.term)) body(row.name, (*this)[row.term]);
  }
};

class StepRunner {
 public:
  explicit StepRunner(Session& session);

  /// Zeroes gradients, runs every micro-step, sums over ranks: terms everywhere, gradients on their owners. `index` is
  /// the number of the step (keys SP's sample).
  StepTerms accumulate(const StepData& data, const Objective& objective, int64_t index);
  /// The terms alone, no gradients.
  StepTerms evaluate(const StepData& data, const Objective& objective);
  /// Stages each micro-batch in turn; `sample` is SP's, its first_token is set here. The body runs the model.
  void for_each_micro_step(const StepData& data, TokenSample sample, const std::function<void(const MicroStep&)>& body);
  /// The model's terms so far, summed over ranks. Between Transformer::begin_step and the next one, once.
  StepTerms read_terms(const Objective& objective);
  /// 2-norm of all gradients; each logical parameter counts once, on the rank that owns it.
  double gradient_norm();
  /// Where a non-finite loss or norm came from, after accumulate: the first weight, residual stream (of the last
  /// micro-step; it names the layer) or gradient that is not finite, as "weight layers.3...", or "". Of several ranks
  /// that find one, the lowest speaks for all.
  std::string find_nonfinite();
  /// "weight NAME" of the first weight that is not finite, over all ranks, or "". All ranks call it.
  std::string nonfinite_weight();
  /// Clip factor for a norm: clip/norm when norm > clip, else 1; clip 0 = never.
  static double clip_factor(double norm, double clip);
  /// AdamW with `gradient_scale` times the gradient on what this rank owns, whose weights then go to all who read them;
  /// and the aux-free biases.
  void update(const OptimizerConfig& optimizer, double lr, double gradient_scale);
  /// Selections of the last accumulate: [MoE layers][E], all ranks.
  std::vector<std::vector<double>> expert_counts();
  /// Selections of the last evaluation: [MoE layers][E], this rank's part.
  std::vector<std::vector<double>> evaluation_counts();

  int64_t updates = 0;  ///< optimizer updates so far (AdamW's bias correction)

 private:
  StepShape shape_of(const StepData& data) const;
  std::vector<std::vector<double>> rows_of(const Tensor& counts);
  double sum_of_squares(const Tensor& x);
  std::string nonfinite_part(Tensor OwnedPart::*field, const std::string& what);
  std::string nonfinite_stream();
  /// What the lowest rank found that found anything.
  std::string first_of_ranks(const std::string& mine);

  Session& session_;
  GradientReduction reduction_;
  std::vector<Communicator::Work> gathers_;  ///< of weights, by bucket
  Tensor norm_;                              ///< [1] f64 on the device
};

}  // namespace strand
