#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

int64_t StepData::sequences() const {
  return std::accumulate(micro_batches.begin(), micro_batches.end(), int64_t{0});
}

StepData part_of_rank(const StepData& whole, int rank, int ranks) {
  StepData part{.tokens = whole.tokens, .micro_batches = {}, .inputs = {}, .targets = {}};
  int64_t first = 0;  // token of the micro-step
  for (const int64_t sequences : whole.micro_batches) {
    require(sequences % ranks == 0, "a micro-step of {} sequences does not divide by {} ranks", sequences, ranks);
    const int64_t rows = sequences / ranks * whole.tokens, begin = first + rank * rows;
    part.micro_batches.push_back(sequences / ranks);
    part.inputs.insert(part.inputs.end(), whole.inputs.begin() + begin, whole.inputs.begin() + begin + rows);
    part.targets.insert(part.targets.end(), whole.targets.begin() + begin, whole.targets.begin() + begin + rows);
    first += sequences * whole.tokens;
  }
  return part;
}

int64_t StepData::valid_targets() const {
  return std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; });
}

StepRunner::StepRunner(Session& session)
    : session_(session),
      reduction_(session),
      gathers_(session.parameters().buckets().size()),
      norm_(session.number_buffer()) {}

StepShape StepRunner::shape_of(const StepData& data) const {
  const int64_t rows = data.sequences() * data.tokens;
  require(static_cast<int64_t>(data.inputs.size()) == rows && static_cast<int64_t>(data.targets.size()) == rows,
          "a step of {} tokens was given {} inputs and {} targets", rows, data.inputs.size(), data.targets.size());
  const int64_t ranks = session_.grid().ranks();
  return {.tokens = rows * ranks,
          .valid_targets = session_.grid().world().all_reduce_sum(data.valid_targets()),
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
  const bool overlap = session_.config().parallel.overlap;
  size_t left = data.micro_batches.size();
  for_each_micro_step(data, sample, [&](const MicroStep& micro) {
    if (--left == 0 && overlap)
      model.train(micro, objective, [this](int64_t layer) { reduction_.layer_done(layer); });
    else
      model.train(micro, objective);
  });
  if (model.step_counts()) session_.grid().world().all_reduce_sum(Traffic::statistics, model.step_counts());
  const StepTerms terms = read_terms(objective);
  reduction_.finish();
  return terms;
}

StepTerms StepRunner::evaluate(const StepData& data, const Objective& objective) {
  Transformer& model = session_.transformer();
  model.begin_evaluation();
  for_each_micro_step(data, TokenSample{}, [&](const MicroStep& micro) { model.evaluate(micro, objective); });
  return read_terms(objective);
}

StepTerms StepRunner::read_terms(const Objective& objective) {
  StepTerms terms;
  const Tensor device = session_.transformer().terms();
  session_.grid().world().all_reduce_sum(Traffic::statistics, device);
  session_.device().download(device, terms.value.data());
  terms.measured = objective.measured();
  for (const TermRow& row : term_table) terms.loss += objective.weight(row.term) * terms[row.term];
  return terms;
}

double StepRunner::gradient_norm() {
  Ops& ops = session_.ops();
  ops(Zero{norm_});
  for (const Parameter& p : session_.parameters().all())
    if (p.owned.gradient) ops(SumOfSquares{.x = p.owned.gradient, .sum = norm_});
  session_.grid().world().all_reduce_sum(Traffic::statistics, norm_);
  double sum = 0;
  ops.device().download(norm_, &sum);
  return std::sqrt(sum);
}

double StepRunner::sum_of_squares(const Tensor& x) {
  double sum = 0;
  session_.ops()(Zero{norm_});
  session_.ops()(SumOfSquares{.x = x, .sum = norm_});
  session_.device().download(norm_, &sum);
  return sum;
}

std::string StepRunner::nonfinite_part(Tensor OwnedPart::*field, const std::string& what) {
  for (const Parameter& p : session_.parameters().all()) {
    for (const LogicalTensor& part : p.logical) {
      const ElementRange mine = intersection(part.range(), p.owned.range);
      if (mine.elements == 0) continue;
      const int64_t first = mine.first - p.owned.range.first;
      if (!std::isfinite(sum_of_squares((p.owned.*field).rows(first, first + mine.elements)))) return what + part.name;
    }
  }
  return "";
}

std::string StepRunner::nonfinite_stream() {
  for (const auto& [name, stream] : session_.transformer().residual_streams())
    if (!std::isfinite(sum_of_squares(stream))) return "activation " + name;
  return "";
}

std::string StepRunner::first_of_ranks(const std::string& mine) {
  for (const std::string& found : session_.grid().world().all_gather(mine))
    if (!found.empty()) return found;
  return "";
}

std::string StepRunner::nonfinite_weight() {
  return first_of_ranks(nonfinite_part(&OwnedPart::master, "weight "));
}

std::string StepRunner::find_nonfinite() {
  if (const std::string found = nonfinite_weight(); !found.empty()) return found;
  if (const std::string found = first_of_ranks(nonfinite_stream()); !found.empty()) return found;
  return first_of_ranks(nonfinite_part(&OwnedPart::gradient, "gradient of "));
}

double StepRunner::clip_factor(double norm, double clip) {
  return clip > 0 && norm > clip ? clip / norm : 1.0;
}

void StepRunner::update(const OptimizerConfig& optimizer, double lr, double gradient_scale) {
  ++updates;
  Ops& ops = session_.ops();
  const auto step = [&](const Parameter& p) {
    const OwnedPart& o = p.owned;
    if (o.range.elements == 0) return;
    ops(AdamW{.weight = o.master,
              .weight_act = o.has_master_copy() ? o.weight : Tensor{},
              .gradient = o.gradient,
              .m = o.m,
              .v = o.v,
              .gradient_scale = gradient_scale,
              .lr = lr,
              .beta1 = optimizer.beta1,
              .beta2 = optimizer.beta2,
              .eps = optimizer.eps,
              .decay = p.matrix ? optimizer.weight_decay : 0.0,
              .updates = updates});
  };
  ProcessGrid& grid = session_.grid();
  const std::vector<Bucket>& buckets = session_.parameters().buckets();
  grid.progress().now("the update", -1);
  for (size_t i = 0; i < buckets.size(); ++i) {
    for (const size_t p : buckets[i].parameters) step(session_.parameters().all()[p]);
    gathers_[i] = buckets[i].group(grid).begin_all_gather(Traffic::weights, buckets[i].weights);
  }
  const Config& config = session_.config();
  for (const Parameters::RouterBias& b : session_.parameters().router_biases())
    ops(RouterBiasUpdate{.step_counts = session_.transformer().step_counts()[b.layer - config.model.dense_layers],
                         .rate = config.moe.bias_rate,
                         .bias = b.bias});
  grid.progress().now("the gathering of weights", -1);
  for (size_t i = 0; i < buckets.size(); ++i) buckets[i].group(grid).wait(gathers_[i]);
}

std::vector<std::vector<double>> StepRunner::rows_of(const Tensor& counts) {
  if (!counts) return {};
  const std::vector<double> flat = download_values(session_.ops(), counts);
  const int64_t experts = counts.dim(1);
  std::vector<std::vector<double>> rows;
  for (auto layer = flat.begin(); layer != flat.end(); layer += experts) rows.emplace_back(layer, layer + experts);
  return rows;
}

std::vector<std::vector<double>> StepRunner::expert_counts() {
  return rows_of(session_.transformer().step_counts());
}

std::vector<std::vector<double>> StepRunner::evaluation_counts() {
  return rows_of(session_.transformer().evaluation_counts());
}

}  // namespace strand
