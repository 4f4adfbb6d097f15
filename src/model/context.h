#pragma once
// What every part of the model is given: the operations, the ranks, the memory and the number types.
#include "config/config.h"
#include "core/arena.h"
#include "core/random.h"
#include "kernels/ops.h"
#include "model/loss_scale.h"
#include "parallel/process_grid.h"

namespace strand {

/// act is the type of activations and of GEMM weights, acc of whatever accumulates or decides (kernels/ops.h).
struct NumberTypes {
  DType act;
  DType acc;

  static NumberTypes of(Precision precision) {
    DType act = DType::f32;
    if (precision == Precision::fp64) act = DType::f64;
    if (precision == Precision::bf16) act = DType::bf16;
    return {act, acc_of(act)};
  }
  bool one_type() const { return act == acc; }
};

class Dispatcher;
class ForwardObserver;

struct Context {
  Ops& ops;
  ProcessGrid& grid;
  Dispatcher& dispatcher;  ///< how rows of tokens come to the experts (model/dispatcher.h)
  Arena& step;             ///< what forward keeps for backward; released when the micro-step ends
  Arena& scratch;          ///< released when the function that asked returns
  NumberTypes types;
  const ModelConfig& model;
  const MoeConfig& moe;
  const ParallelConfig& parallel;
  HeadChunk head_chunk;  ///< the device's (DeviceTraits); tests lower it, for several chunks

  /// The context of a model of this configuration. All that is given outlives it.
  static Context of(Ops& ops, ProcessGrid& grid, Dispatcher& dispatcher, const Config& config, Arena& step,
                    Arena& scratch) {
    return {ops,
            grid,
            dispatcher,
            step,
            scratch,
            NumberTypes::of(config.run.precision),
            config.model,
            config.moe,
            config.parallel,
            ops.device().traits().head_chunk};
  }

  /// Names the part of the step that all that is enqueued from now on belongs to, for the message of a fault.
  void part(const char* what, int64_t layer = -1) const {
    if (WorkTrail* trail = ops.device().trail()) trail->part(what, layer);
  }
};

/// One micro-batch on the device.
struct Batch {
  int64_t sequences = 0;  ///< B
  int64_t tokens = 0;     ///< S, in each sequence
  Tensor inputs;          ///< [B·S] i32, in [0, V)
  Tensor targets;         ///< [B·S] i32, below 0 = ignored
  int64_t rows() const { return sequences * tokens; }
};

/// The objective as one micro-step sees it: what it measures, with which factors, and where values are added up.
struct LossContext {
  const Objective& objective;
  LossScale scale;
  TokenSample sample;  ///< tokens that SP sees
  Tensor numbers;      ///< [step_number_count] f64, of the step
  Tensor terms;        ///< [term_count] f64, accumulated: unweighted values
  TermSet measured;    ///< all terms with a gradient are in it
  /// An evaluation computes values and no gradient, and its selections do not count for the step.
  enum class Use : uint8_t { training, evaluation } use = Use::training;
  ForwardObserver* observer = nullptr;  ///< of this pass (forward_observer.h); usually none

  bool measures(Term term) const { return measured.contains(term); }
  /// Operations add the value of the term here, [1] f64. It is none when the term is not measured.
  Tensor value(Term term) const {
    if (!measures(term)) return {};
    const int place = static_cast<int>(term);
    return terms.rows(place, place + 1);
  }
  /// Whether a measured term is computed from this input.
  bool needs(TermInput input) const { return strand::needs(measured, input); }
  bool has_gradient(Term term) const { return scale[term].gradient != 0; }
};

}  // namespace strand
