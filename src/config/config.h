#pragma once
// The configuration of a run: one plain struct a group, filled from YAML by load_config (schema.h) and checked there.
// Code that takes a Config relies on those checks; a Config made by hand passes check_config first.
#include <cstdint>
#include <string>
#include <vector>

#include "core/model_kinds.h"

namespace strand {

/// `plan` computes nothing and counts everything: for programs, never a value in YAML.
enum class DeviceKind { cpu, reference, cuda, plan };
enum class Precision { fp64, fp32, bf16 };  ///< of weights and activations in the GEMMs; fp64 belongs to `reference`
enum class AttentionKind { heads, mla };    ///< mla: multi-head latent attention
enum class RopeScaling { none, yarn };
enum class StatisticsScope { sequence, microbatch };
enum class CouplingPaths { token, batch };
enum class ScheduleKind { cosine, linear, constant, wsd };
enum class Recompute { none, experts, block };
enum class OnNonfinite { stop, skip };
enum class GradientType { fp32, bf16 };
enum class GroupedGemmChoice { automatic, cublas, device };

struct RunConfig {
  std::string name = "run";
  std::string dir = "runs";  ///< the run directory is dir/name
  uint64_t seed = 1;
  DeviceKind device = DeviceKind::cpu;
  Precision precision = Precision::fp32;
  int threads = 0;     ///< 0 = all cores this process may use
  bool report = true;  ///< training ends with report.html in the run directory

  bool operator==(const RunConfig&) const = default;
};

struct ModelConfig {
  int64_t vocab_size = 0;    ///< V; 0 in a YAML file = that of data.tokenizer
  int64_t hidden_size = 0;   ///< D
  int64_t num_layers = 0;    ///< L
  int64_t num_heads = 0;     ///< H
  int64_t num_kv_heads = 0;  ///< G; 0 in a YAML file = num_heads
  int64_t head_dim = 0;      ///< A; 0 in a YAML file = hidden_size / num_heads; mla: nope_head_dim + rope_head_dim
  AttentionKind attention = AttentionKind::heads;
  int64_t q_latent = 0;        ///< mla: rank of the queries; 0 = they come from x directly
  int64_t kv_latent = 0;       ///< c, mla: rank of keys and values
  int64_t nope_head_dim = 0;   ///< n, mla: dimensions of a head's query and key that are not rotated
  int64_t rope_head_dim = 0;   ///< p, mla: those that are
  int64_t value_head_dim = 0;  ///< v, mla: width of a head's value
  QkNorm qk_norm = QkNorm::none;
  double rope_theta = 10000.0;
  double rope_fraction = 1.0;
  RopeScaling rope_scaling = RopeScaling::none;
  double yarn_factor = 1.0;          ///< f
  int64_t yarn_original_length = 0;  ///< L0
  double yarn_beta_fast = 32.0;
  double yarn_beta_slow = 1.0;
  double yarn_mscale = 1.0;
  double yarn_mscale_all_dim = 0.0;
  double norm_eps = 1e-5;
  bool tied_embeddings = true;
  int64_t dense_layers = 0;
  int64_t dense_ffn = 0;
  double init_std = 0.02;

  bool latent() const { return attention == AttentionKind::mla; }
  bool yarn() const { return rope_scaling == RopeScaling::yarn; }
  int64_t rotary_dim() const {
    if (latent()) return rope_head_dim;
    return static_cast<int64_t>(rope_fraction * static_cast<double>(head_dim) + 0.5);
  }  ///< R
  /// Width of the value and of the output of a head; head_dim is that of its query and key.
  int64_t value_dim() const { return latent() ? value_head_dim : head_dim; }

  bool operator==(const ModelConfig&) const = default;
};

struct MoeConfig {
  int64_t num_experts = 0;  ///< E
  int64_t top_k = 0;        ///< K
  int64_t expert_ffn = 0;   ///< F
  int64_t groups = 1;       ///< of consecutive experts, of which a token keeps groups_kept; 1: no groups
  int64_t groups_kept = 1;
  int64_t shared_experts = 0;  ///< the shared expert is shared_experts * F wide
  RouterScore score = RouterScore::softmax;
  bool renormalize = false;
  double routed_scale = 1.0;
  double bias_rate = 0.0;

  bool operator==(const MoeConfig&) const = default;
};

struct LossConfig {
  double lb_weight = 0.0;
  StatisticsScope lb_scope = StatisticsScope::sequence;
  double z_weight = 0.0;
  double sp_weight = 0.0;
  double sp_token_fraction = 1.0;
  double cp_weight = 0.0;
  CouplingPaths cp_paths = CouplingPaths::token;
  CouplingSources cp_sources = CouplingSources::all;
  double o_weight = 0.0;
  double v_weight = 0.0;
  double entropy_weight = 0.0;

  bool operator==(const LossConfig&) const = default;
};

struct DataSource {
  std::string path;  ///< prefix of a .bin/.idx pair, or a .bin of another format
  double weight = 1.0;
  std::string format = "auto";  ///< auto | megatron | llmc | raw_u16 | raw_i32 (raw = nanoGPT's: no header)

  bool operator==(const DataSource&) const = default;
};

struct DataConfig {
  std::vector<DataSource> train;
  std::vector<DataSource> val;
  std::string tokenizer;        ///< a SentencePiece .model or a tokenizer.json
  std::string chat_template;    ///< a name or a .yaml file; "" = that of the model from which the run goes on, if any
  int64_t sequence_length = 0;  ///< S

  bool operator==(const DataConfig&) const = default;
};

struct OptimizerConfig {
  double lr = 3e-4;
  double min_lr = 3e-5;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;  ///< global norm; 0 = no clipping

  bool operator==(const OptimizerConfig&) const = default;
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::cosine;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;  ///< wsd only

  bool operator==(const ScheduleConfig&) const = default;
};

struct TrainConfig {
  int64_t steps = 0;
  int64_t global_batch_size = 0;  ///< sequences in an optimizer step, over all micro-steps and ranks
  int64_t micro_batch_size = 0;   ///< sequences in one micro-step of one rank
  int64_t eval_every = 0;         ///< 0 = never
  int64_t eval_batches = 0;       ///< batches of global_batch_size sequences in one validation; 0 = all of data.val
  int64_t checkpoint_every = 0;   ///< 0 = only at the end
  int64_t keep = 2;               ///< the newest so many checkpoints stay
  int64_t keep_every = 0;         ///< those at multiples of so many steps stay for ever; 0 = none
  bool background_checkpoints = true;  ///< training waits for a copy in memory, not for the disk
  int64_t log_every = 10;
  Recompute recompute = Recompute::none;
  OnNonfinite on_nonfinite = OnNonfinite::stop;
  int64_t max_skips_in_a_row = 10;  ///< with OnNonfinite::skip: the run stops when more steps in a row are skipped

  bool operator==(const TrainConfig&) const = default;
};

struct ParallelConfig {
  int64_t expert_parallel = 1;  ///< ranks over which a layer's experts are spread
  bool overlap = true;          ///< compute while rows and gradients travel; the same bits either way
  int64_t exchange_chunks = 2;  ///< parts, by expert, in which a layer's rows travel
  GradientType gradient_type = GradientType::fp32;  ///< in which gradients travel; summed in fp32
  int64_t bucket_mib = 32;                          ///< gradients are reduced in pieces of about so many MiB
  bool deterministic = false;                       ///< on GPUs, sums over ranks in the order of ranks, as on the CPU
  int64_t watchdog_seconds = 600;                   ///< a collective that takes longer ends the run

  bool operator==(const ParallelConfig&) const = default;
};

struct CudaConfig {
  GroupedGemmChoice grouped_gemm = GroupedGemmChoice::automatic;
  bool graph = true;  ///< the training step is one CUDA graph where that can be (model/step_graph.h)

  bool operator==(const CudaConfig&) const = default;
};

struct Config {
  RunConfig run;
  ModelConfig model;
  MoeConfig moe;
  LossConfig losses;
  DataConfig data;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  ParallelConfig parallel;
  CudaConfig cuda;  ///< of run.device: cuda

  bool operator==(const Config&) const = default;
};

}  // namespace strand
