#pragma once
// The weights of a model: how they lie in memory, which rank owns what of them, and what they are called outside.
//
// In memory, projections that share an input are one matrix (q, k, v; gate, up) and the experts that a rank holds in a
// layer are one tensor, so that GEMMs are few and large. Outside (checkpoints, gradients in `verify`, export) every
// weight has its own *logical* name and 2-D shape, a contiguous slice of the stored tensor; layouts, fusions and ranks
// never show.
//
// Training shards the optimizer (ZeRO-1, Rajbhandari et al., https://arxiv.org/abs/1910.02054). A rank reads all
// weights of the model but for the experts of others, and has a gradient of each; but it *owns* only an equal part of
// them, and master copies (where GEMMs read another type) and moments exist for that part alone. There are three spaces
// (parameter_layout.h):
//   dense       read in act                        shared by the world
//   dense_acc   norms and routers, read in acc     shared by the world
//   experts     read in act                        shared by the replicas: the ranks that hold the same experts
// Each is contiguous in memory, in the order in which backward completes gradients, and cut into buckets, whose
// gradients are reduced to the owners after backward, and whose weights are gathered from them after the update
// (train/gradient_reduction.h, train/step.h).
#include <string>
#include <vector>

#include "config/config.h"
#include "core/arena.h"
#include "kernels/ops.h"
#include "model/context.h"
#include "model/parameter_layout.h"

namespace strand {

/// A contiguous slice of a stored parameter, under the name by which files and people know it.
struct LogicalTensor {
  std::string name;  ///< "layers.3.moe.experts.5.up_proj.weight"
  Shape shape;
  int64_t offset = 0;     ///< elements from the start of the stored tensor
  double init_std = 0.0;  ///< standard deviation of the initial normal values; 0 = all ones

  ElementRange range() const { return {offset, shape.elements()}; }
};

enum class ParameterSpace : uint8_t { dense, dense_acc, experts };
constexpr int parameter_spaces = 3;

/// The part of a stored parameter that this rank updates.
struct OwnedPart {
  ElementRange range;  ///< of the parameter; empty when others own all of it
  // The elements of this range:
  Tensor weight;    ///< of Parameter::weight
  Tensor master;    ///< acc; `weight` itself where that is acc, or when nothing is trained
  Tensor gradient;  ///< of Parameter::gradient: summed over ranks once it is reduced; training only
  Tensor m, v;      ///< acc; training only

  bool has_master_copy() const { return master.data != weight.data; }
};

/// One stored parameter.
struct Parameter {
  std::string name;  ///< of the storage: "layers.3.moe.experts.gate_up"
  Shape shape;       ///< experts: of those that this rank holds
  ParameterSpace space = ParameterSpace::dense;
  bool matrix = true;          ///< decays; false: norms
  int64_t complete_after = 0;  ///< its gradient is complete after the backward of this layer; L: before any, −1: last
  Tensor weight;               ///< what the model reads: acc in dense_acc, else act
  Tensor gradient;             ///< acc; training only
  OwnedPart owned;
  std::vector<LogicalTensor> logical;

  static Tensor slice(const Tensor& stored, const LogicalTensor& part);
};

/// Whole parameters of one space, whose gradients are reduced by one collective and whose weights are gathered by one.
struct Bucket {
  ParameterSpace space = ParameterSpace::dense;
  int64_t complete_after = 0;  ///< of the last of its parameters
  int parts = 1;               ///< ranks that share it; this one owns equal part `part`
  int part = 0;
  Tensor weights, gradients;       ///< [elements], padding included
  Tensor master, m, v;             ///< [elements / parts] acc: the owned part; master as in OwnedPart
  std::vector<size_t> parameters;  ///< indices into Parameters::all()
  std::vector<int64_t> first;      ///< where each parameter begins, from the start of the bucket

  /// The part of `weights` or `gradients` that this rank owns.
  Tensor part_of(const Tensor& whole) const;
  /// The ranks that share it.
  Communicator& group(ProcessGrid& grid) const {
    return space == ParameterSpace::experts ? grid.replicas() : grid.world();
  }
};

/// The tensors of one layer as the model's functions take them. There is one such set of weights and one of gradients.
struct LayerTensors {
  Tensor attn_norm, ffn_norm;   ///< [D] acc
  Tensor qkv;                   ///< [(H + 2G)·A, D]; latent attention: [r + c + p, D], r = q_latent or H·A
  Tensor q_b;                   ///< [H·A, q_latent]; none without
  Tensor kv_b;                  ///< [H·(n + v), c]: latent attention only
  Tensor o_proj;                ///< [D, H·U], U the width of a value
  Tensor q_norm, k_norm;        ///< acc, see QkNorm; of latents [q_latent], [c]; none without
  Tensor feed_forward_gate_up;  ///< [2W, D]: of the FFN of a dense layer, or of the shared expert; or none
  Tensor feed_forward_down;     ///< [D, W]: of the same, or none
  Tensor router;                ///< [E, D] acc; none in a dense layer
  Tensor gate_up, down;         ///< [E/EP, 2F, D], [E/EP, D, F]: the experts that this rank holds
};

struct ModelTensors {
  Tensor embed;  ///< [V, D]
  Tensor norm;   ///< [D] acc
  Tensor head;   ///< [V, D]; the embedding itself when tied
  std::vector<LayerTensors> layers;
};

/// What a model is set up for. inference evaluates whole sequences, training also computes gradients, generation
/// continues texts with a cache, and scoring gives the likelihood of continuations of texts in such a cache.
enum class Purpose : uint8_t { inference, training, generation, scoring };

class Parameters {
 public:
  /// Allocates from `arena` what one rank of a grid has. Contents are undefined until initialize() or a load. Throws
  /// Error when the experts do not divide over the ranks of an expert group.
  Parameters(Arena& arena, const Config& config, NumberTypes types, Purpose purpose, const GridShape& grid = {});

  std::vector<Parameter>& all() { return parameters_; }
  const std::vector<Parameter>& all() const { return parameters_; }
  /// The buckets in the order in which backward completes them: `complete_after` never rises.
  const std::vector<Bucket>& buckets() const { return buckets_; }
  const ModelTensors& weights() const { return weights_; }
  const ModelTensors& gradients() const { return gradients_; }

  /// The selection bias of a MoE layer (balancing without an auxiliary loss). Every rank has all of them.
  struct RouterBias {
    std::string name;  ///< "layers.3.moe.router.bias"
    int64_t layer = 0;
    Tensor bias;
  };
  const std::vector<RouterBias>& router_biases() const { return biases_; }
  /// The bias of layer `layer`, or none.
  Tensor router_bias(int64_t layer) const;

  /// Sets initial values by docs/mathematics.md, section 2: element i of logical tensor `name` is a function of (seed,
  /// name, i) alone.
  void initialize(Ops& ops, uint64_t seed);
  /// Sets a logical tensor, and its master copy as far as this rank owns it. `values` has part.shape in acc and lies on
  /// the host at any address.
  void store(Ops& ops, const Parameter& parameter, const LogicalTensor& part, const void* values) const;
  void store(Ops& ops, const Parameter& parameter, const LogicalTensor& part, const std::vector<double>& values) const;
  /// Sets what this rank owns of a logical tensor in `field`, which is master, m or v.
  void store_owned(Ops& ops, const Parameter& parameter, const LogicalTensor& part, Tensor OwnedPart::*field,
                   const void* values) const;
  /// Zeroes moments, gradients and biases, as for a new optimizer. Biases belong to a trained model and may be kept.
  enum class Keep : uint8_t { nothing, biases };
  void zero_training_state(Ops& ops, Keep keep = Keep::nothing);
  void zero_gradients(Ops& ops);

  DType acc() const { return types_.acc; }
  // The whole model, all ranks together:
  int64_t elements() const;  ///< logical weights, a tied head counted once, biases not
  int64_t tensors() const;   ///< logical tensors, biases not

 private:
  struct Builder;
  void declare(Builder& builder, const Config& config);
  void declare_layer(Builder& builder, const Config& config, int64_t layer);
  static void declare_attention(Builder& builder, const ModelConfig& model, int64_t layer);
  static void declare_latent_attention(Builder& builder, const ModelConfig& model, int64_t layer);
  struct Share {
    int parts, part;
  };
  void allocate(Arena& arena, int64_t bucket_mib, Purpose purpose, const GridShape& grid);
  void allocate_space(Arena& arena, ParameterSpace space, const std::vector<size_t>& order, int64_t bucket_elements,
                      Purpose purpose, const Share& share);
  void place(Bucket& bucket);

  NumberTypes types_;
  int expert_parallel_;
  std::vector<Parameter> parameters_;
  std::vector<Bucket> buckets_;
  std::vector<RouterBias> biases_;
  ModelTensors weights_, gradients_;
};

}  // namespace strand
