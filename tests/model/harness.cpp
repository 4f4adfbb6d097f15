#include "tests/model/harness.h"

#include <algorithm>
#include <cmath>

#include "config/schema.h"
#include "kernels/staging.h"

namespace strand::test {

Config tiny_config(Precision precision) {
  Config c;
  c.run.precision = precision;
  c.model = {.vocab_size = 17, .hidden_size = 10, .num_layers = 2, .num_heads = 4, .num_kv_heads = 2, .head_dim = 6};
  c.moe = {.num_experts = 5, .top_k = 2, .expert_ffn = 7};
  c.losses = {.lb_weight = 0.5,
              .z_weight = 0.3,
              .sp_weight = 0.7,
              .cp_weight = 0.6,
              .o_weight = 0.2,
              .v_weight = 0.9,
              .entropy_weight = -0.4};
  return c;
}

void use_latent_attention(Config& config, int64_t q_latent) {
  ModelConfig& m = config.model;
  m.attention = AttentionKind::mla;
  m.q_latent = q_latent;
  m.kv_latent = 7;
  m.nope_head_dim = 4;
  m.rope_head_dim = 6;
  m.value_head_dim = 5;
  m.num_kv_heads = m.head_dim = 0;
  resolve_derived(config);
}

void use_yarn(Config& config) {
  ModelConfig& m = config.model;
  m.rope_theta = 4;
  m.rope_scaling = RopeScaling::yarn;
  m.yarn_factor = 8;
  m.yarn_original_length = 12;
  m.yarn_beta_fast = 1.6;
  m.yarn_beta_slow = 0.9;
  m.yarn_mscale = 1;
  m.yarn_mscale_all_dim = 0.7;
}

Objective whole_objective(const Config& config) {
  return {.losses = config.losses};
}

Objective only(const Config& config, Term term) {
  Objective objective = Objective::only(config.losses, term);
  objective.asked = TermSet::all();
  return objective;
}

Config every_part_config(Precision precision) {
  Config c = tiny_config(precision);
  c.model.num_layers = 3;
  c.model.dense_layers = 1;
  c.model.dense_ffn = 9;
  c.moe.num_experts = 8;
  c.moe.top_k = 3;
  c.moe.shared_experts = 1;
  c.moe.bias_rate = 1e-3;
  for (const TermRow& row : term_table)
    if (row.weight != nullptr) c.losses.*row.weight = 0.1;
  return c;
}

StepData random_batch(const Config& config, int64_t sequences, int64_t tokens, uint64_t seed) {
  StepData data;
  data.tokens = tokens;
  data.micro_batches = {sequences};
  const auto id = [&](const char* what, int64_t i) {
    const double u = random_uniform(hash_key(seed, what), static_cast<uint64_t>(i));
    return static_cast<int32_t>(u * static_cast<double>(config.model.vocab_size));
  };
  for (int64_t i = 0; i < sequences * tokens; ++i) {
    data.inputs.push_back(id("tokens", i));
    data.targets.push_back(id("targets", i));
  }
  return data;
}

StepData cut(StepData data, std::vector<int64_t> micro_batches) {
  data.micro_batches = std::move(micro_batches);
  return data;
}

StepData sequences_of(const StepData& data, int64_t begin, int64_t end) {
  const auto slice = [&](const std::vector<int32_t>& ids) {
    return std::vector<int32_t>(ids.begin() + begin * data.tokens, ids.begin() + end * data.tokens);
  };
  return {data.tokens, {end - begin}, slice(data.inputs), slice(data.targets)};
}

TestModel::TestModel(Ops& ops, const Config& config, int64_t sequences, int64_t tokens)
    : session(ops, self, config, {Purpose::training, sequences, tokens},
              plan_training(config, {Purpose::training, sequences, tokens}, ops, self)),
      runner(session) {}

namespace {
/// Mean and standard deviation of a random weight: activations of order one, routers that choose clearly.
std::pair<double, double> scale_of(const LogicalTensor& part) {
  if (part.shape.rank() == 1) return {1.0, 0.2};
  if (part.name == "embed_tokens.weight") return {0.0, 0.7};
  const double fan_in = 1.0 / std::sqrt(static_cast<double>(part.shape[1]));
  return {0.0, (part.name.ends_with("router.weight") ? 2.0 : 1.3) * fan_in};
}

Values random_values(uint64_t seed, const std::string& name, int64_t n, double mean, double deviation) {
  Values values;
  for (int64_t i = 0; i < n; ++i)
    values.push_back(
        static_cast<float>(mean + deviation * random_normal(hash_key(seed, name), static_cast<uint64_t>(i))));
  return values;
}

void append(Values& to, const Values& from) {
  to.insert(to.end(), from.begin(), from.end());
}
}  // namespace

void TestModel::randomize(uint64_t seed) {
  Parameters& parameters = session.parameters();
  for (const Parameter& p : parameters.all()) {
    for (const LogicalTensor& part : p.logical) {
      const auto [mean, deviation] = scale_of(part);
      parameters.store(session.ops(), p, part, random_values(seed, part.name, part.shape.elements(), mean, deviation));
    }
  }
  parameters.zero_training_state(session.ops());
  for (const Parameters::RouterBias& b : parameters.router_biases())
    upload_values(session.ops(), b.bias, random_values(seed, b.name, b.bias.elements(), 0.0, 0.2));
  runner.set_updates(0);
}

TestModel::Place TestModel::find(const std::string& name) const {
  for (const Parameter& p : const_cast<Session&>(session).parameters().all())
    for (const LogicalTensor& part : p.logical)
      if (part.name == name) return {&p, &part};
  fail("no weight {}", name);
}

std::vector<std::string> TestModel::names() const {
  std::vector<std::string> all;
  for (const Parameter& p : const_cast<Session&>(session).parameters().all())
    for (const LogicalTensor& part : p.logical) all.push_back(part.name);
  return all;
}

Values TestModel::weight(const std::string& name) {
  const Place place = find(name);
  return download_values(session.ops(), Parameter::slice(place.parameter->owned.master, *place.part));
}

void TestModel::set_weight(const std::string& name, const Values& values) {
  const Place place = find(name);
  session.parameters().store(session.ops(), *place.parameter, *place.part, values);
}

Shape TestModel::shape_of(const std::string& name) const {
  return find(name).part->shape;
}

NamedValues TestModel::weights() {
  NamedValues all;
  for (const std::string& name : names()) all[name] = weight(name);
  return all;
}

NamedValues TestModel::gradients() {
  NamedValues all;
  for (const Parameter& p : session.parameters().all())
    for (const LogicalTensor& part : p.logical)
      all[part.name] = download_values(session.ops(), Parameter::slice(p.gradient, part));
  return all;
}

Choices TestModel::choices(const StepData& data) {
  Choices all;
  Transformer& model = session.transformer();
  model.begin_step();
  runner.for_each_micro_step(data, {}, [&](const MicroStep& micro) {
    model.evaluate(micro, whole_objective(session.config()));
    for (int64_t l = 0; l < model.moe_layers(); ++l) {
      const Routing& r = model.routing(l);
      append(all.selected, download_values(session.ops(), r.selected));
      if (r.top_experts) append(all.coupled, download_values(session.ops(), r.top_experts));
      if (r.joint_mask && l + 1 < model.moe_layers()) append(all.coupled, download_values(session.ops(), r.joint_mask));
    }
  });
  return all;
}

Values TestModel::probabilities(int64_t layer) {
  return download_values(session.ops(), session.transformer().routing(layer).probs);
}

Values TestModel::selected(int64_t layer) {
  return download_values(session.ops(), session.transformer().routing(layer).selected);
}

double dot(const Values& x, const Values& y) {
  require(x.size() == y.size(), "dot of {} and {} values", x.size(), y.size());
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

double norm(const Values& x) {
  return std::sqrt(dot(x, x));
}

double cosine(const Values& x, const Values& y) {
  return dot(x, y) / (norm(x) * norm(y));
}

double relative_error(const Values& got, const Values& want) {
  require(got.size() == want.size(), "{} values where {} are expected", got.size(), want.size());
  double difference = 0, scale = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(got[i] - want[i]);
    difference = std::max(difference, std::isfinite(d) ? d : INFINITY);
    scale = std::max(scale, std::abs(want[i]));
  }
  return scale > 0 ? difference / scale : difference;
}

double relative_error(const NamedValues& got, const NamedValues& want) {
  require(got.size() == want.size(), "{} tensors where {} are expected", got.size(), want.size());
  double worst = 0;
  for (const auto& [name, values] : want) worst = std::max(worst, relative_error(got.at(name), values));
  return worst;
}

}  // namespace strand::test
