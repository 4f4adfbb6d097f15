// Values and combinations of values that no run can have.
#include "config/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "config/keys.h"
#include "config/rotary.h"
#include "config/schema.h"
#include "core/error.h"

namespace strand {
namespace schema {
namespace {

// With larger numbers, counts of bytes and of tokens in a run would not fit into 64 bits.
constexpr double max_parameters = 1e15;
constexpr double max_tokens = 1e18;

struct ValueProblem {
  const Config& config;

  std::string operator()(const IntegerField& f) const {
    const int64_t value = f.get(config);
    if (f.min <= value && value <= f.max) return "";
    return fmt::format("{} is outside {} .. {}", value, f.min, f.max);
  }
  std::string operator()(const FloatField& f) const {
    const double value = f.get(config);
    const Interval& r = f.range;
    const bool above = r.min_bound == Bound::closed ? value >= r.min : value > r.min;
    const bool below = r.max_bound == Bound::closed ? value <= r.max : value < r.max;
    if (!std::isfinite(value)) return fmt::format("{} is not a finite number", value);
    return above && below ? "" : fmt::format("{} is out of range", value);
  }
  std::string operator()(const BoolField&) const { return ""; }
  std::string operator()(const StringField&) const { return ""; }
  std::string operator()(const ChoiceField& f) const {
    return f.get(config) < f.choices.size() ? "" : "not one of its choices";
  }
  std::string operator()(const SourcesField& f) const {
    for (const DataSource& source : f.get(config)) {
      if (std::string problem = source_problem(source); !problem.empty()) return problem;
    }
    return "";
  }
};

/// One configuration that is being checked. `refuse` reports the keys at fault.
struct Examiner {
  const Config& c;
  const Complain& complain;

  template <typename... Args>
  void refuse_if(bool wrong, const std::vector<std::string>& paths, fmt::format_string<Args...> format,
                 Args&&... args) const {
    if (wrong) complain(paths, fmt::vformat(format, fmt::make_format_args(args...)));
  }

  void device() const {
    const bool reference = c.run.device == DeviceKind::reference;
    const bool fp64 = c.run.precision == Precision::fp64;
    refuse_if(reference && !fp64, {"run.precision", "run.device"}, "the reference device computes in fp64 only");
    refuse_if(fp64 && !reference, {"run.precision", "run.device"}, "fp64 needs run.device: reference");
  }

  void attention() const {
    const ModelConfig& m = c.model;
    refuse_if(m.num_kv_heads < 1, {"model.num_kv_heads"}, "is not resolved");
    if (m.latent()) return latent_attention();
    refuse_if(m.head_dim < 1, {"model.head_dim"}, "is not resolved");
    refuse_if(m.num_heads % m.num_kv_heads != 0, {"model.num_kv_heads", "model.num_heads"},
              "{} does not divide model.num_heads = {}", m.num_kv_heads, m.num_heads);
    const double rotary = m.rope_fraction * static_cast<double>(m.head_dim);
    const bool even = std::abs(rotary - std::round(rotary)) < 1e-6 && m.rotary_dim() % 2 == 0 && m.rotary_dim() > 0;
    refuse_if(!even, {"model.rope_fraction", "model.head_dim"},
              "rope_fraction * head_dim = {} * {} = {} must be an even integer above 0", m.rope_fraction, m.head_dim,
              rotary);
  }

  void latent_attention() const {
    const ModelConfig& m = c.model;
    const auto above_zero = [&](const char* key, int64_t value) {
      refuse_if(value < 1, {key, "model.attention"}, "must be set when model.attention is mla");
    };
    above_zero("model.kv_latent", m.kv_latent);
    above_zero("model.nope_head_dim", m.nope_head_dim);
    above_zero("model.rope_head_dim", m.rope_head_dim);
    above_zero("model.value_head_dim", m.value_head_dim);
    refuse_if(m.rope_head_dim % 2 != 0, {"model.rope_head_dim"}, "{} is odd; rotation pairs dimensions",
              m.rope_head_dim);
    refuse_if(m.qk_norm != QkNorm::none, {"model.qk_norm", "model.attention"},
              "latent attention has norms of its latents in its place; set it to none");
    refuse_if(m.num_kv_heads != m.num_heads, {"model.num_kv_heads", "model.attention"},
              "with latent attention every head has its own keys and values; leave it out");
    refuse_if(m.head_dim != m.nope_head_dim + m.rope_head_dim, {"model.head_dim", "model.attention"},
              "{} is not nope_head_dim + rope_head_dim = {}; leave it out", m.head_dim,
              m.nope_head_dim + m.rope_head_dim);
  }

  void yarn() const {
    const ModelConfig& m = c.model;
    if (!m.yarn()) return;
    refuse_if(m.yarn_original_length < 1, {"model.yarn_original_length", "model.rope_scaling"},
              "must be set when model.rope_scaling is yarn");
    refuse_if(m.rope_theta == 1.0, {"model.rope_theta", "model.rope_scaling"},
              "yarn has no frequencies to tell apart when it is 1");
    const YarnRamp ramp = yarn_ramp(m);
    refuse_if(ramp.low > ramp.high, {"model.yarn_beta_fast", "model.yarn_beta_slow", "model.yarn_original_length"},
              "yarn would divide the frequencies from index {} on and leave those up to {}, which is more: "
              "yarn_beta_fast has to be above yarn_beta_slow, and yarn_original_length long enough for them",
              ramp.high + 0.0, ramp.low);  // −0 + 0 is 0
  }

  void vocabulary() const {
    refuse_if(c.model.vocab_size == 0 && c.data.tokenizer.empty(), {"model.vocab_size", "data.tokenizer"},
              "no vocabulary: set model.vocab_size or data.tokenizer");
    refuse_if(c.model.vocab_size == 1, {"model.vocab_size"}, "1 token leaves nothing to predict");
  }

  void experts() const {
    const ModelConfig& m = c.model;
    refuse_if(c.moe.top_k > c.moe.num_experts, {"moe.top_k", "moe.num_experts"}, "{} is more than moe.num_experts = {}",
              c.moe.top_k, c.moe.num_experts);
    groups();
    refuse_if(m.dense_layers > m.num_layers, {"model.dense_layers", "model.num_layers"},
              "{} is more than model.num_layers = {}", m.dense_layers, m.num_layers);
    refuse_if(m.dense_layers > 0 && m.dense_ffn == 0, {"model.dense_ffn", "model.dense_layers"},
              "must be set when model.dense_layers is above 0");
    refuse_if(c.moe.num_experts % c.parallel.expert_parallel != 0, {"parallel.expert_parallel", "moe.num_experts"},
              "{} does not divide moe.num_experts = {}", c.parallel.expert_parallel, c.moe.num_experts);
  }

  void groups() const {
    const MoeConfig& moe = c.moe;
    if (moe.groups == 1) {
      refuse_if(moe.groups_kept != 1, {"moe.groups_kept", "moe.groups"},
                "{} of moe.groups = 1: set the number of groups, or leave both out", moe.groups_kept);
      return;
    }
    refuse_if(moe.num_experts % moe.groups != 0 || moe.num_experts / moe.groups < 2, {"moe.groups", "moe.num_experts"},
              "{} does not divide moe.num_experts = {} into groups of two or more", moe.groups, moe.num_experts);
    refuse_if(moe.groups_kept >= moe.groups, {"moe.groups_kept", "moe.groups"},
              "{} must be below moe.groups = {}; to keep every group, leave both out", moe.groups_kept, moe.groups);
    refuse_if(moe.groups_kept * (moe.num_experts / moe.groups) < moe.top_k,
              {"moe.groups_kept", "moe.top_k", "moe.groups"}, "{} groups of {} experts have fewer than moe.top_k = {}",
              moe.groups_kept, moe.num_experts / moe.groups, moe.top_k);
  }

  /// Computed in floating point, because the exact count might overflow.
  void total_size() const {
    const auto d = [](int64_t n) { return static_cast<double>(n); };
    const ModelConfig& m = c.model;
    // An upper bound. With latents: from x to them and from the heads to x, and the same from the latents to the heads.
    const double width = d(std::max(m.head_dim, m.value_dim())) * d(std::max(m.num_heads, m.num_kv_heads));
    const double latents = m.latent() ? d(m.q_latent + m.kv_latent + m.rope_head_dim) : 0;
    const double attention = 4.0 * (d(m.hidden_size) + latents) * width + d(m.hidden_size) * latents;
    const double experts = 3.0 * d(c.moe.num_experts + c.moe.shared_experts) * d(m.hidden_size) * d(c.moe.expert_ffn);
    const double dense = 3.0 * d(m.hidden_size) * d(m.dense_ffn);
    const double total = d(m.num_layers) * (attention + experts + dense) + 2.0 * d(m.vocab_size) * d(m.hidden_size);
    refuse_if(total > max_parameters, {"model.hidden_size", "model.num_layers", "moe.num_experts", "moe.expert_ffn"},
              "these sizes make about {:.1e} parameters; the limit is {:.0e}", total, max_parameters);
  }

  void batch() const {
    const TrainConfig& t = c.train;
    refuse_if(t.global_batch_size % t.micro_batch_size != 0, {"train.global_batch_size", "train.micro_batch_size"},
              "{} is not a multiple of train.micro_batch_size = {}", t.global_batch_size, t.micro_batch_size);
    const double tokens = static_cast<double>(t.steps) * static_cast<double>(t.global_batch_size) *
                          static_cast<double>(c.data.sequence_length);
    refuse_if(tokens > max_tokens, {"train.steps", "train.global_batch_size", "data.sequence_length"},
              "the run would see {:.1e} tokens; the limit is {:.0e}", tokens, max_tokens);
  }

  void schedule() const {
    const int64_t warmup = std::max<int64_t>(c.schedule.warmup_steps, 1);
    const int64_t n = c.train.steps;
    const bool decays = c.schedule.kind != ScheduleKind::constant;
    refuse_if(n <= warmup, {"train.steps", "schedule.warmup_steps"},
              "{} steps leave none after the warm-up of {} (schedule.warmup_steps, at least 1)", n, warmup);
    refuse_if(decays && c.optimizer.min_lr > c.optimizer.lr, {"optimizer.min_lr", "optimizer.lr"},
              "{} is more than optimizer.lr = {}", c.optimizer.min_lr, c.optimizer.lr);
    const int64_t decay = c.schedule.decay_steps;
    refuse_if(c.schedule.kind == ScheduleKind::wsd && (decay < 1 || decay > n - warmup),
              {"schedule.decay_steps", "schedule.kind", "train.steps"},
              "wsd needs decay_steps in 1 .. {} (train.steps less the warm-up), not {}", n - warmup, decay);
  }

  void names() const {
    const std::string& name = c.run.name;
    const auto odd = [](unsigned char ch) { return ch == '/' || ch < 0x20 || ch == 0x7f; };
    refuse_if(name.empty() || name == "." || name == ".." || std::any_of(name.begin(), name.end(), odd), {"run.name"},
              "names a directory: it must not be empty, '.', '..' or contain '/' or control characters");
    refuse_if(c.run.dir.empty(), {"run.dir"}, "must not be empty ('.' is the current directory)");
  }
};

bool describes_model(const std::string& group) {
  return group == "run" || group == "model" || group == "moe" || group == "losses" || group == "parallel" ||
         group == "cuda";
}

void complain_plainly(const std::vector<std::string>& paths, const std::string& message) {
  fail("{}: {}", paths.front(), message);
}

}  // namespace

std::string value_problem(const Key& key, const Config& config) {
  std::string problem = std::visit(ValueProblem{config}, key.field);
  if (std::holds_alternative<FloatField>(key.field) && !problem.empty()) problem += "; allowed: " + range_text(key);
  return problem;
}

std::string source_problem(const DataSource& source) {
  if (source.path.empty()) return "a source needs a path";
  if (!(std::isfinite(source.weight) && source.weight > 0.0)) {
    return fmt::format("weight {} of source '{}' must be a finite number above 0", source.weight, source.path);
  }
  const auto& formats = source_formats();
  if (std::find(formats.begin(), formats.end(), source.format) != formats.end()) return "";
  return fmt::format("unknown format '{}' of source '{}'{}", source.format, source.path,
                     suggestion(source.format, formats));
}

void resolve_derived(Config& config, const Complain& complain) {
  ModelConfig& m = config.model;
  if (m.num_heads < 1) complain({"model.num_heads"}, fmt::format("{} is below 1", m.num_heads));
  if (m.num_kv_heads == 0) m.num_kv_heads = m.num_heads;
  if (m.head_dim != 0) return;
  if (m.latent()) {
    m.head_dim = m.nope_head_dim + m.rope_head_dim;
    return;
  }
  if (m.hidden_size % m.num_heads != 0) {
    complain({"model.hidden_size", "model.num_heads"},
             fmt::format("{} is not divisible by model.num_heads = {}; change one or set model.head_dim", m.hidden_size,
                         m.num_heads));
  }
  m.head_dim = m.hidden_size / m.num_heads;
}

void check_ranges(const Config& config, Part part, const Complain& complain) {
  for (const Key& key : keys()) {
    if (part == Part::model && !describes_model(key.group)) continue;
    if (const std::string problem = value_problem(key, config); !problem.empty()) complain({key.path()}, problem);
  }
}

void check_combinations(const Config& config, Part part, const Complain& complain) {
  const Examiner examiner{config, complain};
  examiner.names();
  examiner.device();
  examiner.attention();
  examiner.yarn();
  examiner.vocabulary();
  examiner.experts();
  examiner.total_size();
  if (part == Part::model) return;
  examiner.batch();
  examiner.schedule();
}

}  // namespace schema

void resolve_derived(Config& config) {
  schema::resolve_derived(config, schema::complain_plainly);
}

void check_config(const Config& config) {
  schema::check_ranges(config, schema::Part::everything, schema::complain_plainly);
  schema::check_combinations(config, schema::Part::everything, schema::complain_plainly);
}

void check_model_config(const Config& config) {
  schema::check_ranges(config, schema::Part::model, schema::complain_plainly);
  schema::check_combinations(config, schema::Part::model, schema::complain_plainly);
}

}  // namespace strand
