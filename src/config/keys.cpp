#include "config/keys.h"

#include <fmt/format.h>

#include <limits>
#include <type_traits>
#include <utility>

#include "config/terms.h"
#include "core/nearest.h"

namespace strand::schema {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr Interval any_positive{0.0, Bound::open, infinity, Bound::open};
constexpr Interval any_number{-infinity, Bound::open, infinity, Bound::open};
constexpr Interval non_negative{0.0, Bound::closed, infinity, Bound::open};
constexpr Interval fraction{0.0, Bound::open, 1.0, Bound::closed};
constexpr Interval at_least_one{1.0, Bound::closed, infinity, Bound::open};
constexpr Interval below_one{0.0, Bound::closed, 1.0, Bound::open};

// Upper bounds are far above any real model; with them, products of two sizes cannot overflow (check.cpp bounds the
// rest).
constexpr int64_t max_width = int64_t{1} << 20;
constexpr int64_t max_steps = 1'000'000'000;

/// The member `Member` of the group `Group` of a Config, seen as a T.
template <typename T, auto Group, auto Member>
Access<T> access() {
  return {[](const Config& c) { return static_cast<T>((c.*Group).*Member); },
          [](Config& c, const T& value) {
            auto& member = (c.*Group).*Member;
            member = static_cast<std::remove_reference_t<decltype(member)>>(value);
          }};
}

template <auto Group, auto Member>
Field integer(int64_t min, int64_t max) {
  return IntegerField{access<int64_t, Group, Member>(), min, max};
}
template <auto Group, auto Member>
Field real(const Interval& range) {
  return FloatField{access<double, Group, Member>(), range};
}
template <auto Group, auto Member>
Field boolean() {
  return BoolField{access<bool, Group, Member>()};
}
template <auto Group, auto Member>
Field text() {
  return StringField{access<std::string, Group, Member>()};
}
template <auto Group, auto Member>
Field choice(std::vector<std::string> choices) {
  return ChoiceField{access<size_t, Group, Member>(), std::move(choices)};
}
template <auto Group, auto Member>
Field sources() {
  return SourcesField{access<std::vector<DataSource>, Group, Member>()};
}

constexpr auto required = Presence::required;
constexpr auto optional = Presence::optional;

std::vector<Key> run_keys() {
  constexpr auto g = &Config::run;
  using C = RunConfig;
  return {
      {"run", "name", text<g, &C::name>(), "name of the run; its directory is dir/name"},
      {"run", "dir", text<g, &C::dir>(), "where run directories lie"},
      {"run", "seed", integer<g, &C::seed>(0, std::numeric_limits<int64_t>::max()),
       "key of all random numbers: initial weights, order of the data, token samples"},
      {"run", "device", choice<g, &C::device>({"cpu", "reference", "cuda"}),
       "backend; reference is slow double precision, to compare with"},
      {"run", "precision", choice<g, &C::precision>({"fp64", "fp32", "bf16"}),
       "of weights and activations in the matrix products; fp64 belongs to the reference device"},
      {"run", "threads", integer<g, &C::threads>(0, 4096),
       "CPU threads; 0 = all cores this process may use: its affinity, the CPU quota of its control groups and "
       "OMP_NUM_THREADS, whichever is the least"},
      {"run", "report", boolean<g, &C::report>(),
       "training ends with report.html in the run directory (strand report)"},
  };
}

std::vector<Key> model_keys() {
  constexpr auto g = &Config::model;
  using C = ModelConfig;
  return {
      {"model", "vocab_size", integer<g, &C::vocab_size>(0, int64_t{1} << 31),
       "V, tokens in the vocabulary: the pieces of data.tokenizer, or more rows than it has pieces", optional,
       "that of data.tokenizer"},
      {"model", "hidden_size", integer<g, &C::hidden_size>(1, max_width), "D, width of the residual stream", required},
      {"model", "num_layers", integer<g, &C::num_layers>(1, 4096), "L, transformer layers", required},
      {"model", "num_heads", integer<g, &C::num_heads>(1, 65536), "H, query heads", required},
      {"model", "num_kv_heads", integer<g, &C::num_kv_heads>(0, 65536),
       "G, key/value heads (grouped-query attention); divides num_heads", optional, "num_heads"},
      {"model", "head_dim", integer<g, &C::head_dim>(0, 65536), "A, width of a head", optional,
       "hidden_size / num_heads; mla: nope_head_dim + rope_head_dim"},
      {"model", "attention", choice<g, &C::attention>({"heads", "mla"}),
       "heads: every head has a query, key and value of its own (or shares them, num_kv_heads); mla: multi-head latent "
       "attention, where keys and values of all heads are made from one latent of a token"},
      {"model", "q_latent", integer<g, &C::q_latent>(0, max_width),
       "mla: width of the latent from which queries are made; 0 = queries are made from the input directly"},
      {"model", "kv_latent", integer<g, &C::kv_latent>(0, max_width),
       "mla: width of the latent from which keys and values are made"},
      {"model", "nope_head_dim", integer<g, &C::nope_head_dim>(0, 65536),
       "mla: dimensions of a head's query and key that are not rotated"},
      {"model", "rope_head_dim", integer<g, &C::rope_head_dim>(0, 65536),
       "mla: dimensions of a head's query and key that are rotated; all heads share this part of the key; even"},
      {"model", "value_head_dim", integer<g, &C::value_head_dim>(0, 65536), "mla: width of a head's value"},
      {"model", "qk_norm", choice<g, &C::qk_norm>({"none", "head", "full"}),
       "RMSNorm of queries and keys before RoPE: over each head, or over all heads together"},
      {"model", "rope_theta", real<g, &C::rope_theta>(any_positive), "base of the rotary angles"},
      {"model", "rope_fraction", real<g, &C::rope_fraction>(fraction),
       "share of each head that is rotated; rope_fraction * head_dim must be an even integer"},
      {"model", "rope_scaling", choice<g, &C::rope_scaling>({"none", "yarn"}),
       "yarn: rotary frequencies for contexts yarn_factor times as long as yarn_original_length"},
      {"model", "yarn_factor", real<g, &C::yarn_factor>(at_least_one), "yarn: how many times longer the context is"},
      {"model", "yarn_original_length", integer<g, &C::yarn_original_length>(0, int64_t{1} << 31),
       "yarn: tokens of the context that the frequencies were made for"},
      {"model", "yarn_beta_fast", real<g, &C::yarn_beta_fast>(any_positive),
       "yarn: frequencies that turn more often than this in the original context stay"},
      {"model", "yarn_beta_slow", real<g, &C::yarn_beta_slow>(any_positive),
       "yarn: frequencies that turn less often than this are divided by yarn_factor"},
      {"model", "yarn_mscale", real<g, &C::yarn_mscale>(non_negative),
       "yarn: cosine and sine are scaled by m(yarn_mscale) / m(yarn_mscale_all_dim), m(x) = 0.1 x ln(yarn_factor) + 1, "
       "m(0) = 1"},
      {"model", "yarn_mscale_all_dim", real<g, &C::yarn_mscale_all_dim>(non_negative),
       "yarn: see yarn_mscale; with mla, scores are scaled by m(yarn_mscale_all_dim)^2"},
      {"model", "norm_eps", real<g, &C::norm_eps>(any_positive),
       "epsilon inside every RMSNorm but those of mla's latents, where it is 1e-6"},
      {"model", "tied_embeddings", boolean<g, &C::tied_embeddings>(), "the output head is the embedding matrix"},
      {"model", "dense_layers", integer<g, &C::dense_layers>(0, 4096),
       "the first so many layers have one dense FFN and no router"},
      {"model", "dense_ffn", integer<g, &C::dense_ffn>(0, max_width), "width of the FFN of the dense layers"},
      {"model", "init_std", real<g, &C::init_std>(any_positive),
       "standard deviation of initial weights; divided by sqrt(2 L) for attention output and down projections"},
  };
}

std::vector<Key> moe_keys() {
  constexpr auto g = &Config::moe;
  using C = MoeConfig;
  return {
      {"moe", "num_experts", integer<g, &C::num_experts>(1, 65536), "E, routed experts in a layer", required},
      {"moe", "top_k", integer<g, &C::top_k>(1, 65536), "K, experts that each token uses", required},
      {"moe", "groups", integer<g, &C::groups>(1, 32768),
       "the experts are so many groups of consecutive ones; a token keeps the groups whose two largest scores (with "
       "the "
       "bias) have the largest sums, and chooses its experts in them; 1 = no groups"},
      {"moe", "groups_kept", integer<g, &C::groups_kept>(1, 32768), "groups that a token keeps"},
      {"moe", "expert_ffn", integer<g, &C::expert_ffn>(1, max_width), "F, width of an expert", required},
      {"moe", "shared_experts", integer<g, &C::shared_experts>(0, 1024),
       "one more expert, that every token uses, is so many times F wide"},
      {"moe", "score", choice<g, &C::score>({"softmax", "sigmoid"}), "from router logits to routing scores"},
      {"moe", "renormalize", boolean<g, &C::renormalize>(), "the weights of a token's K experts are made to sum to 1"},
      {"moe", "routed_scale", real<g, &C::routed_scale>(any_positive), "factor on the routing weights"},
      {"moe", "bias_rate", real<g, &C::bias_rate>(non_negative),
       "step of the aux-loss-free balancing bias after each optimizer step; 0 = no bias"},
  };
}

/// What a term has beside its weight.
std::vector<Key> term_options(Term term) {
  constexpr auto g = &Config::losses;
  using C = LossConfig;
  switch (term) {
    case Term::lb:
      return {{"losses", "lb_scope", choice<g, &C::lb_scope>({"sequence", "microbatch"}),
               "tokens over which lb and v take their statistics"}};
    case Term::sp:
      return {{"losses", "sp_token_fraction", real<g, &C::sp_token_fraction>(fraction),
               "share of the tokens, by a fixed hash, on which sp is estimated (unbiased)"}};
    case Term::cp:
      return {{"losses", "cp_paths", choice<g, &C::cp_paths>({"token", "batch"}),
               "cp's top-K paths: of each token, or of the mean over the micro-batch"},
              {"losses", "cp_sources", choice<g, &C::cp_sources>({"all", "activated"}),
               "cp's experts in the lower layer: all, or those that the token uses"}};
    default:
      return {};
  }
}

template <size_t Row>
void add_term_keys(std::vector<Key>& keys) {
  constexpr TermRow row = term_table[Row];
  if constexpr (row.weight != nullptr)
    keys.push_back({"losses", weight_key(row),
                    real<&Config::losses, row.weight>(row.sign == WeightSign::any ? any_number : non_negative),
                    std::string("weight of the ") + row.text});
  for (Key& option : term_options(row.term)) keys.push_back(std::move(option));
}

std::vector<Key> loss_keys() {
  std::vector<Key> keys;
  [&]<size_t... Rows>(std::index_sequence<Rows...>) {
    (add_term_keys<Rows>(keys), ...);
  }
  (std::make_index_sequence<term_count>{});
  return keys;
}

std::vector<Key> data_keys() {
  constexpr auto g = &Config::data;
  using C = DataConfig;
  return {
      {"data", "train", sources<g, &C::train>(),
       "token files to train on; format is one of auto, megatron, llmc, raw_u16, raw_i32"},
      {"data", "val", sources<g, &C::val>(), "token files to validate on"},
      {"data", "tokenizer", text<g, &C::tokenizer>(),
       "Tokenizer that made the token files: a SentencePiece .model or a tokenizer.json"},
      {"data", "chat_template", text<g, &C::chat_template>(),
       "chat template of the model, a name or a .yaml file, for its checkpoints and exports; without it, that of the "
       "model from which the run goes on"},
      {"data", "sequence_length", integer<g, &C::sequence_length>(1, int64_t{1} << 24), "S, tokens in a sequence",
       required},
  };
}

std::vector<Key> optimizer_keys() {
  constexpr auto g = &Config::optimizer;
  using C = OptimizerConfig;
  return {
      {"optimizer", "lr", real<g, &C::lr>(any_positive), "peak learning rate of AdamW"},
      {"optimizer", "min_lr", real<g, &C::min_lr>(non_negative), "learning rate of the last step"},
      {"optimizer", "beta1", real<g, &C::beta1>(below_one), "decay of the first moment"},
      {"optimizer", "beta2", real<g, &C::beta2>(below_one), "decay of the second moment"},
      {"optimizer", "eps", real<g, &C::eps>(any_positive), "added to the root of the second moment"},
      {"optimizer", "weight_decay", real<g, &C::weight_decay>(non_negative),
       "decoupled decay of every matrix; norms do not decay"},
      {"optimizer", "clip_norm", real<g, &C::clip_norm>(non_negative),
       "gradients are scaled down to this global norm; 0 = no clipping"},
  };
}

std::vector<Key> schedule_keys() {
  constexpr auto g = &Config::schedule;
  using C = ScheduleConfig;
  return {
      {"schedule", "kind", choice<g, &C::kind>({"cosine", "linear", "constant", "wsd"}),
       "course of the learning rate after the warm-up; wsd = constant, then linear decay"},
      {"schedule", "warmup_steps", integer<g, &C::warmup_steps>(0, max_steps), "steps of linear warm-up"},
      {"schedule", "decay_steps", integer<g, &C::decay_steps>(0, max_steps), "wsd: the last so many steps decay"},
  };
}

std::vector<Key> train_keys() {
  constexpr auto g = &Config::train;
  using C = TrainConfig;
  return {
      {"train", "steps", integer<g, &C::steps>(1, max_steps), "optimizer steps of the whole run", required},
      {"train", "global_batch_size", integer<g, &C::global_batch_size>(1, max_width),
       "sequences in an optimizer step, over all micro-steps and processes", required},
      {"train", "micro_batch_size", integer<g, &C::micro_batch_size>(1, max_width),
       "sequences in one micro-step of one process", required},
      {"train", "eval_every", integer<g, &C::eval_every>(0, max_steps), "validate every so many steps; 0 = never"},
      {"train", "eval_batches", integer<g, &C::eval_batches>(0, max_steps),
       "batches of global_batch_size sequences in one validation, spread evenly over data.val and always the same; 0 = "
       "all of data.val"},
      {"train", "checkpoint_every", integer<g, &C::checkpoint_every>(0, max_steps),
       "save every so many steps; 0 = only at the end"},
      {"train", "keep", integer<g, &C::keep>(1, max_steps), "the newest so many checkpoints stay"},
      {"train", "keep_every", integer<g, &C::keep_every>(0, max_steps),
       "checkpoints at multiples of so many steps stay for ever; 0 = none"},
      {"train", "background_checkpoints", boolean<g, &C::background_checkpoints>(),
       "training waits for a copy in memory (12 bytes a parameter), not for the disk"},
      {"train", "log_every", integer<g, &C::log_every>(1, max_steps),
       "console line and per-layer expert load every so many steps"},
      {"train", "recompute", choice<g, &C::recompute>({"none", "experts", "block"}),
       "what backward computes again instead of keeping it; the same bits, less memory"},
      {"train", "on_nonfinite", choice<g, &C::on_nonfinite>({"stop", "skip"}),
       "on a loss or gradient that is not finite: stop the run, or skip the step"},
      {"train", "max_skips_in_a_row", integer<g, &C::max_skips_in_a_row>(1, max_steps),
       "with on_nonfinite: skip, the run stops with an error when more steps than this are skipped one after another"},
  };
}

std::vector<Key> parallel_keys() {
  constexpr auto g = &Config::parallel;
  using C = ParallelConfig;
  return {
      {"parallel", "expert_parallel", integer<g, &C::expert_parallel>(1, 65536),
       "processes over which a layer's experts are spread; divides num_experts and the number of processes"},
      {"parallel", "overlap", boolean<g, &C::overlap>(),
       "compute while rows and gradients travel between processes; the same bits either way"},
      {"parallel", "exchange_chunks", integer<g, &C::exchange_chunks>(1, 64),
       "parts, by expert, in which a layer's rows travel: one is computed while the next one is on its way"},
      {"parallel", "gradient_type", choice<g, &C::gradient_type>({"fp32", "bf16"}),
       "type in which gradients travel between processes; they are summed in fp32"},
      {"parallel", "bucket_mib", integer<g, &C::bucket_mib>(1, 4096),
       "gradients are reduced in pieces of about so many MiB, each as soon as it is complete"},
      {"parallel", "deterministic", boolean<g, &C::deterministic>(),
       "on GPUs, take sums over processes in the order of ranks, as the CPU always does, and not in NCCL's own order"},
      {"parallel", "watchdog_seconds", integer<g, &C::watchdog_seconds>(1, 1'000'000),
       "a process that waits so long for the others ends the run"},
  };
}

std::vector<Key> cuda_keys() {
  constexpr auto g = &Config::cuda;
  using C = CudaConfig;
  return {
      {"cuda", "grouped_gemm", choice<g, &C::grouped_gemm>({"auto", "cublas", "device"}),
       "what computes the experts' matrix products on a GPU: cuBLAS, for which the host waits for the number of rows "
       "of each expert, or kernels that read it on the device; auto = device"},
      {"cuda", "graph", boolean<g, &C::graph>(),
       "record the training step once as a CUDA graph and launch it as one piece from then on; the same bits. Not with "
       "several processes, nor with grouped_gemm: cublas"},
  };
}

std::vector<Key> all_keys() {
  std::vector<Key> all;
  for (const auto& group : {run_keys(), model_keys(), moe_keys(), loss_keys(), data_keys(), optimizer_keys(),
                            schedule_keys(), train_keys(), parallel_keys(), cuda_keys()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

}  // namespace

const std::vector<Key>& keys() {
  static const std::vector<Key> table = all_keys();
  return table;
}

const std::vector<std::string>& groups() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    for (const Key& key : keys()) {
      if (found.empty() || found.back() != key.group) found.push_back(key.group);
    }
    return found;
  }();
  return names;
}

const Key* find_key(const std::string& group, const std::string& name) {
  for (const Key& key : keys()) {
    if (key.group == group && key.name == name) return &key;
  }
  return nullptr;
}

const std::vector<std::string>& source_formats() {
  static const std::vector<std::string> formats = {"auto", "megatron", "llmc", "raw_u16", "raw_i32"};
  return formats;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& candidates) {
  const std::string nearest = did_you_mean(word, candidates);
  return nearest.empty() ? fmt::format(" (one of: {})", fmt::join(candidates, ", ")) : nearest;
}

}  // namespace strand::schema
