#pragma once
// One optimizer step: it accumulates gradients over micro-steps, takes their norm, clips and updates. Training,
// benchmarks, verification and the plan all run this.
//
// A step is enqueued whole: the norm, the clip factor and whether the step is finite stay on the device, where they
// guard the update, so that nothing in a step waits for the device. (Where experts are spread over ranks, the rows of
// each layer are counted on the host, model/dispatcher.h: the only wait.) What a step came to is asked for as it is
// enqueued and read when it has arrived, Device::steps_ahead() steps later at most.
//
// Where model/step_graph.h says so, a device records steps and replays them as one piece (train/step_recordings.h). All
// that changes from step to step then lies in device memory before the step: its numbers, and all of its batches.
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "model/session.h"
#include "train/gradient_reduction.h"
#include "train/step_data.h"
#include "train/step_parts.h"
#include "train/step_recordings.h"

namespace strand {

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

/// Selections by expert: [MoE layers][E].
using ExpertCounts = std::vector<std::vector<double>>;

/// The result of a step, over all ranks.
struct StepResult {
  StepTerms terms;
  double gradient_norm = 0;  ///< 2-norm before clipping; each logical parameter counts once
  bool applied = false;      ///< the weights were updated; false when the loss or the norm was not finite
  /// The 2-norm of what the update changed over that of the weights after it, of all parameters of the optimizer
  /// together, where it was measured.
  std::optional<double> update_ratio;
  bool finite() const;
  ExpertCounts expert_counts;
  /// The largest router bias of a layer less its least, at most over the layers; none without such biases.
  std::optional<double> bias_range;
  /// Of the step, from the end of the step before it, or from its own begin where something else came between
  /// (StepRunner::stop_clock). Measured by events of the device, so it does not matter when the result is read.
  double seconds = 0;
  TrafficCounts traffic;             ///< of this rank, in the step: no more of its time was spent waiting than it has
  std::optional<PartSeconds> parts;  ///< of this rank's time; none where the host runs ahead of the device
};

class StepRunner {
 public:
  explicit StepRunner(Session& session);

  /// Enqueues a whole step and the request for its result. `index` is the number of the step (keys SP's sample). At
  /// most Device::steps_ahead() results of earlier steps may be pending when it is called.
  void step(const StepData& data, const Objective& objective, int64_t index, const Update& update);
  /// Whether the last step() was a recording. What the transformer knows on the host (routing(), residual_streams(),
  /// expert_rows()) is then that of an earlier call.
  bool replayed() const { return replayed_; }
  /// Results that were asked for and not taken.
  int pending() const { return pending_; }
  /// The oldest pending result. Waits for the end of its step.
  StepResult take_result();
  /// What the host does from now on until the next step (validation, saving) does not count as time of that step.
  void stop_clock() { clock_stopped_ = true; }

  // ---- the parts of a step, for verification, tests and the search for what was not finite
  /// Enqueues the zeroing of gradients, every micro-step, and the sums over ranks (of gradients, on their owners).
  void gradients(const StepData& data, const Objective& objective, int64_t index);
  /// Enqueues: the norm, the clip factor and the guard, AdamW on what this rank owns, whose weights then go to all who
  /// read them, and the aux-free biases.
  void update(const Update& update);
  /// Calls gradients() and returns its terms. Waits.
  StepTerms accumulate(const StepData& data, const Objective& objective, int64_t index);
  /// The 2-norm of the gradients that gradients() left behind. Waits.
  double gradient_norm();
  /// Computes the terms alone, without gradients. Waits.
  StepTerms evaluate(const StepData& data, const Objective& objective);
  /// Evaluates likewise, and calls `look` with the logits [T, V] acc of each micro-step. They lie on the device and are
  /// there until `look` returns.
  StepTerms evaluate_with_logits(const StepData& data, const Objective& objective,
                                 const std::function<void(const Tensor& logits)>& look);
  /// Stages each micro-batch in turn; `sample` is SP's, its first_token is set here. The body runs the model.
  void for_each_micro_step(const StepData& data, TokenSample sample, const std::function<void(const MicroStep&)>& body);
  /// The model's terms so far, summed over ranks. Between Transformer::begin_step and the next one, once. Waits.
  StepTerms read_terms(const Objective& objective);
  /// Selections of the last gradients(), all ranks. Waits.
  ExpertCounts expert_counts();
  /// Selections of the last evaluation, this rank's part. Waits.
  ExpertCounts evaluation_counts();

  /// Updates that have changed the weights so far (AdamW's bias correction). Setting it also ends a halt.
  void set_updates(int64_t updates);
  /// Waits.
  int64_t updates();

 private:
  /// Where the numbers of a step arrive.
  struct Request {
    Objective objective;
    UpdateSize update_size = UpdateSize::not_measured;
    DeviceMemory staging;            ///< terms, numbers and selection counts
    std::unique_ptr<Event> arrived;  ///< keeps the time
    TrafficCounts traffic;           ///< but for times that only the device knows
    PartSeconds parts{};
  };
  /// The micro-batch of so many sequences that begins at token `first` of this rank's step.
  using BatchAt = std::function<Batch(int64_t first, int64_t sequences)>;
  /// What the host gives a step: the first numbers of the vector on the device.
  struct Given {
    DeviceMemory staging;  ///< [given_step_numbers] f64
    std::unique_ptr<Event> taken;
  };

  void begin(const StepData& data, double learning_rate);
  void begin_training(const StepData& data, int64_t index, double learning_rate);
  void give(double target_share, double learning_rate, uint64_t sample_key);
  void part(const char* what);
  BatchAt staging(const StepData& data);
  bool can_record(const StepData& data);
  void enqueue_recorded(const StepData& data, const Objective& objective, const Update& update);
  void walk(const StepData& data, TokenSample sample, const BatchAt& batch_at,
            const std::function<void(const MicroStep&)>& body);
  void enqueue_gradients(const StepData& data, const Objective& objective, const BatchAt& batch_at);
  void enqueue_update(const Update& update);
  void enqueue_norm();
  void enqueue_update_size(const OptimizerConfig& optimizer);
  void request_result(const Objective& objective, UpdateSize update_size, const TrafficCounts& before);
  Event& start_of(int64_t step) { return *starts_[static_cast<size_t>(step) % starts_.size()]; }
  StepTerms terms_of(const double* values, const Objective& objective) const;
  std::optional<double> bias_range(const std::byte* values) const;
  ExpertCounts rows_of(const double* counts, const Shape& shape) const;
  ExpertCounts read_counts(const Tensor& counts);

  Session& session_;
  GradientReduction reduction_;
  std::vector<Communicator::Work> gathers_;     ///< of weights, by bucket
  std::vector<Request> requests_;               ///< a ring
  std::vector<Given> given_;                    ///< a ring
  std::vector<std::unique_ptr<Event>> starts_;  ///< a ring, by step of this runner; they keep the time
  int64_t begun_ = 0;                           ///< steps of this runner
  bool clock_stopped_ = true;
  size_t first_request_ = 0, next_given_ = 0;
  int pending_ = 0;
  double target_share_ = 0;
  uint64_t sample_key_ = 0;
  StepRecordings recordings_;
  StepClock clock_;
  bool replayed_ = false;
};

}  // namespace strand
