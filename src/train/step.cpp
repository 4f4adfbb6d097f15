#include "train/step.h"

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

int64_t StepData::sequences() const {
  return std::accumulate(micro_batches.begin(), micro_batches.end(), int64_t{0});
}

double term_weight(const Objective& objective, Term term) {
  const LossConfig& l = objective.losses;
  switch (term) {
    case Term::ce:
      return objective.ce_weight;
    case Term::lb:
      return l.lb_weight;
    case Term::z:
      return l.z_weight;
    case Term::sp:
      return l.sp_weight;
    case Term::cp:
      return l.cp_weight;
    case Term::o:
      return l.o_weight;
    case Term::v:
      return l.v_weight;
  }
  return 0;
}

StepRunner::StepRunner(Session& session) : session_(session), norm_(session.number_buffer()) {}

StepShape StepRunner::shape_of(const StepData& data) const {
  const int64_t rows = data.sequences() * data.tokens;
  require(static_cast<int64_t>(data.inputs.size()) == rows && static_cast<int64_t>(data.targets.size()) == rows,
          "a step of {} tokens was given {} inputs and {} targets", rows, data.inputs.size(), data.targets.size());
  const int64_t ranks = session_.grid().ranks();
  int64_t valid = 0;
  for (int32_t target : data.targets) valid += target >= 0;
  valid = session_.grid().world().all_reduce_sum(valid);
  return {.tokens = rows * ranks,
          .valid_targets = valid,
          .micro_steps = static_cast<int64_t>(data.micro_batches.size()),
          .ranks = ranks};
}

void StepRunner::for_each_micro_step(const StepData& data, TokenSample sample,
                                     const std::function<void(const MicroStep&)>& body) {
  const StepShape shape = shape_of(data);
  const int64_t ranks = session_.grid().ranks(), rank = session_.grid().rank();
  int64_t first = 0;  // token of this rank
  for (const int64_t sequences : data.micro_batches) {
    const int64_t rows = sequences * data.tokens;
    sample.first_token = first * ranks + rank * rows;  // micro-step by micro-step, rank by rank
    body(MicroStep{
        .batch = session_.stage(sequences, data.tokens, data.inputs.data() + first, data.targets.data() + first),
        .step = shape,
        .micro_tokens = rows * ranks,
        .sample = sample});
    first += rows;
  }
}

StepTerms StepRunner::accumulate(const StepData& data, const Objective& objective, int64_t index) {
  Transformer& model = session_.transformer();
  const TokenSample sample{.fraction = objective.losses.sp_token_fraction,
                           .key = hash_key(session_.config().run.seed, "sp sample " + std::to_string(index))};
  session_.parameters().zero_gradients(session_.ops());
  model.begin_step();
  for_each_micro_step(data, sample, [&](const MicroStep& micro) { model.train(micro, objective); });
  for (const Parameter& p : session_.parameters().all())
    session_.grid().world().all_reduce_sum(Traffic::gradients, p.gradient);
  if (model.step_counts()) session_.grid().world().all_reduce_sum(Traffic::statistics, model.step_counts());
  return read_terms(objective);
}

StepTerms StepRunner::evaluate(const StepData& data, const Objective& objective) {
  Transformer& model = session_.transformer();
  model.begin_step();
  for_each_micro_step(data, TokenSample{}, [&](const MicroStep& micro) { model.evaluate(micro, objective); });
  return read_terms(objective);
}

StepTerms StepRunner::read_terms(const Objective& objective) {
  StepTerms terms;
  const Tensor device = session_.transformer().terms();
  session_.grid().world().all_reduce_sum(Traffic::statistics, device);
  session_.ops().download(device, terms.value.data());
  for (int i = 0; i < term_count; ++i)
    terms.loss += term_weight(objective, static_cast<Term>(i)) * terms.value[static_cast<size_t>(i)];
  return terms;
}

double StepRunner::gradient_norm() {
  Ops& ops = session_.ops();
  ops(Zero{norm_});
  for (const Parameter& p : session_.parameters().all()) ops(SumOfSquares{.x = p.gradient, .sum = norm_});
  double sum = 0;
  ops.download(norm_, &sum);
  return std::sqrt(sum);
}

double StepRunner::sum_of_squares(const Tensor& x) {
  double sum = 0;
  session_.ops()(Zero{norm_});
  session_.ops()(SumOfSquares{.x = x, .sum = norm_});
  session_.ops().download(norm_, &sum);
  return sum;
}

std::string StepRunner::find_nonfinite() {
  const auto search = [&](Tensor Parameter::* field, const char* what) -> std::string {
    for (const Parameter& p : session_.parameters().all())
      for (const LogicalTensor& part : p.logical)
        if (!std::isfinite(sum_of_squares(Parameter::slice(p.*field, part)))) return what + part.name;
    return "";
  };
  if (const std::string found = search(&Parameter::master, "weight "); !found.empty()) return found;
  for (const auto& [name, stream] : session_.transformer().residual_streams())
    if (!std::isfinite(sum_of_squares(stream))) return "activation " + name;
  return search(&Parameter::gradient, "gradient of ");
}

double StepRunner::clip_factor(double norm, double clip) {
  return clip > 0 && norm > clip ? clip / norm : 1.0;
}

void StepRunner::update(const OptimizerConfig& optimizer, double lr, double gradient_scale) {
  ++updates;
  Ops& ops = session_.ops();
  for (const Parameter& p : session_.parameters().all()) {
    ops(AdamW{.weight = p.master,
              .weight_act = p.act && p.act.data != p.master.data ? p.act : Tensor{},
              .gradient = p.gradient,
              .m = p.m,
              .v = p.v,
              .gradient_scale = gradient_scale,
              .lr = lr,
              .beta1 = optimizer.beta1,
              .beta2 = optimizer.beta2,
              .eps = optimizer.eps,
              .decay = p.matrix ? optimizer.weight_decay : 0.0,
              .updates = updates});
  }
  const Config& config = session_.config();
  for (const Parameters::RouterBias& b : session_.parameters().router_biases())
    ops(RouterBiasUpdate{.step_counts = session_.transformer().step_counts()[b.layer - config.model.dense_layers],
                         .rate = config.moe.bias_rate,
                         .bias = b.bias});
}

std::vector<std::vector<double>> StepRunner::expert_counts() {
  const Tensor counts = session_.transformer().step_counts();
  if (!counts) return {};
  const std::vector<double> flat = download_values(session_.ops(), counts);
  const int64_t experts = counts.dim(1);
  std::vector<std::vector<double>> rows;
  for (auto layer = flat.begin(); layer != flat.end(); layer += experts) rows.emplace_back(layer, layer + experts);
  return rows;
}

}  // namespace strand
