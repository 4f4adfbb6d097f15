#pragma once
// The weights: how they lie in memory, and what they are called outside.
//
// In memory, projections that share an input are one matrix (q, k, v; gate, up) and the experts of a layer are one
// tensor, so that GEMMs are few and large. Outside (checkpoints, gradients in `verify`, export) every weight has its
// own *logical* name and 2-D shape, a contiguous slice of the stored tensor; layouts and fusions never show.
#include <functional>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/arena.h"
#include "kernels/ops.h"
#include "model/context.h"

namespace strand {

/// A contiguous slice of a stored parameter under its outside name.
struct LogicalTensor {
  std::string name;  ///< "layers.3.moe.experts.5.up_proj.weight"
  Shape shape;
  int64_t offset = 0;     ///< elements from the start of the stored tensor
  double init_std = 0.0;  ///< standard deviation of the initial normal values; 0 = all ones
};

/// One stored parameter: master copy, the copy that GEMMs read, gradient and moments.
struct Parameter {
  std::string name;  ///< of the storage: "layers.3.moe.experts.gate_up"
  Shape shape;
  bool matrix = true;        ///< decays, and is rounded to act for GEMMs; false: norms
  bool read_in_acc = false;  ///< norms and the router: read from the master copy, no act copy
  Tensor master;             ///< acc
  Tensor act;                ///< act; the master copy itself when the types agree; none when read_in_acc
  Tensor gradient;           ///< acc; training only
  Tensor m, v;               ///< acc; training only
  std::vector<LogicalTensor> logical;

  const Tensor& weight() const { return read_in_acc ? master : act; }
  static Tensor slice(const Tensor& stored, const LogicalTensor& part);
};

/// Tensors of one layer as the model's functions take them; once for weights, once for gradients.
struct LayerTensors {
  Tensor attn_norm, ffn_norm;        ///< [D] acc
  Tensor qkv;                        ///< [(H + 2G)·A, D]
  Tensor o_proj;                     ///< [D, H·A]
  Tensor q_norm, k_norm;             ///< acc, see HeadNorm; none without
  Tensor dense_gate_up, dense_down;  ///< [2W, D], [D, W]: the dense FFN, or the shared expert of a MoE layer; or none
  Tensor router;                     ///< [E, D] acc; none in a dense layer
  Tensor gate_up, down;              ///< [E, 2F, D], [E, D, F]
};

struct ModelTensors {
  Tensor embed;  ///< [V, D]
  Tensor norm;   ///< [D] acc
  Tensor head;   ///< [V, D]; the embedding itself when tied
  std::vector<LayerTensors> layers;
};

/// What a model is set up for: evaluating whole sequences, the same and gradients, or continuing texts with a cache.
enum class Purpose : uint8_t { inference, training, generation };

class Parameters {
 public:
  /// Allocates everything from `arena`. Contents are undefined until initialize() or a load.
  Parameters(Arena& arena, const Config& config, NumberTypes types, Purpose purpose);

  std::vector<Parameter>& all() { return parameters_; }
  const std::vector<Parameter>& all() const { return parameters_; }
  const ModelTensors& weights() const { return weights_; }
  const ModelTensors& gradients() const { return gradients_; }

  /// Aux-loss-free selection bias of each MoE layer, [E] acc, and its logical name; empty when off.
  struct RouterBias {
    std::string name;  ///< "layers.3.moe.router.bias"
    int64_t layer = 0;
    Tensor bias;
  };
  const std::vector<RouterBias>& router_biases() const { return biases_; }
  /// The bias of layer `layer`, or none.
  Tensor router_bias(int64_t layer) const;

  /// Initial values by SPEC section 2: element i of logical tensor `name` is a function of (seed, name, i) alone.
  void initialize(Ops& ops, uint64_t seed);
  /// Zero moments, gradients and biases: a new optimizer. Biases are part of a trained model and may be kept.
  enum class Keep : uint8_t { nothing, biases };
  void zero_training_state(Ops& ops, Keep keep = Keep::nothing);
  void zero_gradients(Ops& ops);
  /// Rounds the master copies into the act copies; after a load.
  void refresh_act(Ops& ops);

  /// Number of logical weights, a tied head counted once, biases not.
  int64_t elements() const;

 private:
  struct Builder;
  std::vector<Parameter> parameters_;
  std::vector<RouterBias> biases_;
  ModelTensors weights_, gradients_;
};

}  // namespace strand
