#pragma once
// The model: one micro-step forward and backward, with every loss term of the objective in the backward.
//
// Nothing here reads device data: the sequence of operations and all sizes follow from the configuration and the shape
// of the batch, so the same code runs on every backend, and on the plan backend to count what it would need.
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/attention.h"
#include "model/context.h"
#include "model/experts.h"
#include "model/feed_forward.h"
#include "model/parameters.h"
#include "model/routing.h"

namespace strand {

/// A micro-batch, and its place in the optimizer step.
struct MicroStep {
  Batch batch;
  StepShape step;
  int64_t micro_tokens = 0;  ///< tokens of this micro-step on all ranks
  Tensor numbers;            ///< [step_number_count] f64 (kernels/ops/step_numbers.h)
  TokenSample sample;        ///< the tokens SP sees; first_token is this batch's first token in the step
};

/// What Transformer::train calls as it goes, where it is given.
struct TrainHooks {
  /// The layers have run forward; the head comes next.
  std::function<void()> forward_done;
  /// Gradients are complete: with L (the number of layers) those of the final norm and of an untied head, with l those
  /// of layer l, with −1 those of the embedding.
  std::function<void(int64_t layer)> layer_done;
};

class Transformer {
 public:
  /// State that lives as long as the model (the rotary table, sums of the terms and selections) comes from `model`. A
  /// micro-step takes its memory from `step` and `scratch`. A sequence has at most `positions` tokens.
  Transformer(Ops& ops, ProcessGrid& grid, const Config& config, const Parameters& parameters, int64_t positions,
              Arena& model, Arena& step, Arena& scratch);

  /// Zeroes the terms and the selection counts of the step.
  void begin_step();
  /// Zeroes the terms and the selection counts of evaluations; those of the step stay as they are.
  void begin_evaluation();
  /// Adds this micro-batch's part of every term, of every gradient and of the selection counts.
  void train(const MicroStep& micro, const Objective& objective, const TrainHooks& hooks = {});
  /// Adds this micro-batch's part of every term and of the evaluation's selection counts; gradients and the step's
  /// counts stay as they are. `logits` [T, V] acc receives the logits when given. `observer` may look at the pass.
  void evaluate(const MicroStep& micro, const Objective& objective, const Tensor& logits = {},
                ForwardObserver* observer = nullptr);

  Tensor terms() const { return terms_; }  ///< [term_count] f64: unweighted, this rank's part
  /// Selections of the step, one row a MoE layer, this rank's part. [MoE layers, E] acc; none without a MoE layer.
  Tensor step_counts() const { return step_counts_; }
  /// Selections of the evaluation since begin_evaluation, in the same shape.
  Tensor evaluation_counts() const { return evaluation_counts_; }
  /// What the last train or evaluate left behind in MoE layer `i` (counted from the first MoE layer).
  const Routing& routing(int64_t moe_layer) const;
  const PairGrams& pair_grams(int64_t moe_layer) const;
  /// The residual streams of the last micro-step that still lie in memory, by name ("layers.3.x_in"), in forward order.
  std::vector<std::pair<std::string, Tensor>> residual_streams() const;
  /// Rows that the experts of this rank have computed since begin_step, in the forward passes of training.
  int64_t expert_rows() const { return expert_rows_; }
  int64_t moe_layers() const { return config_.model.num_layers - config_.model.dense_layers; }
  NumberTypes types() const { return types_; }

 private:
  /// What one layer's forward keeps for its backward. Fields are allocated in this order, so that each kind of
  /// recomputation releases a suffix of them when the layer's forward is done.
  struct LayerKept {
    Tensor x_in;      ///< [T, D] acc, the residual stream as the layer receives it
    Routing routing;  ///< MoE layers
    PairGrams grams;  ///< of them
    // Recomputed under `block`:
    Tensor x_mid;  ///< [T, D] acc, the residual stream after attention
    AttentionKept attention;
    Tensor ffn_normed;  ///< [T, D] act
    Tensor ffn_rstd;    ///< [T] acc
    // Recomputed under `block` and `experts`:
    FeedForwardKept feed_forward;  ///< of a dense layer, or the shared expert of a MoE layer
    ExpertsKept experts;
  };

  bool is_moe(int64_t layer) const { return layer >= config_.model.dense_layers; }
  bool has_feed_forward(int64_t layer) const {
    return static_cast<bool>(parameters_.weights().layers[size_t(layer)].feed_forward_down);
  }
  Tensor counts_of(int64_t layer, LossContext::Use use) const {
    const Tensor& counts = use == LossContext::Use::training ? step_counts_ : evaluation_counts_;
    return counts[layer - config_.model.dense_layers];
  }
  void forward(const Batch& batch, const LossContext& loss, Recompute recompute);
  void allocate_block(LayerKept& kept, const Batch& batch);
  void allocate_feed_forward(LayerKept& kept, int64_t layer, const Batch& batch);
  void attention_half(int64_t layer, const Batch& batch, ForwardPass pass);
  void ffn_half(int64_t layer, const LossContext& loss);
  /// The experts of a MoE layer, with what their passes need.
  ExpertLayer expert_layer(int64_t layer, const LossContext& loss) const;
  void ffn_recompute(int64_t layer, const Batch& batch, const LossContext& loss);
  void backward_layer(int64_t layer, const Batch& batch, const LossContext& loss, Recompute recompute);
  void ffn_backward(int64_t layer, const LossContext& loss, const Tensor& dnormed);
  LossContext loss_context(const MicroStep& micro, const Objective& objective, LossContext::Use use) const;
  Tensor gradient_act() const { return types_.one_type() ? dresidual_ : dresidual_act_; }

  Config config_;
  NumberTypes types_;
  std::unique_ptr<Dispatcher> dispatcher_;
  Context context_;
  const Parameters& parameters_;
  Tensor rotary_;                           ///< [positions, R] acc
  Tensor terms_;                            ///< [term_count] f64
  Tensor step_counts_, evaluation_counts_;  ///< [MoE layers, E] acc
  int64_t expert_rows_ = 0;
  // These belong to the micro-step in progress:
  std::vector<LayerKept> kept_;
  Tensor residual_;  ///< [T, D] acc, residual stream before `branch_` is added
  Tensor middle_;    ///< [T, D] acc, x_mid of the current layer when layers do not keep theirs
  Tensor branch_;    ///< [T, D] acc, output of the last half-layer
  Tensor final_normed_, final_rstd_, final_x_;
  Tensor dresidual_;      ///< [T, D] acc
  Tensor dresidual_act_;  ///< [T, D] act, when act is not acc
};

}  // namespace strand
