#include "train/step.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"
#include "kernels/staging.h"

namespace strand {

bool StepResult::finite() const {
  return std::isfinite(terms.loss) && std::isfinite(gradient_norm);
}

StepRunner::StepRunner(Session& session)
    : session_(session),
      reduction_(session),
      gathers_(session.parameters().buckets().size()),
      recordings_(session.device()) {
  Device& device = session.device();
  const Transformer& model = session.transformer();
  const size_t bytes = model.terms().bytes() + session.numbers().bytes() + model.step_counts().bytes();
  const auto results = static_cast<size_t>(device.steps_ahead() + 1);
  for (size_t i = 0; i < results; ++i)
    requests_.push_back({{}, DeviceMemory(device, MemoryKind::staging, bytes), device.make_timed_event(), {}});
  // The start of a step is recorded with the end of the one before, whose own start is still needed.
  for (size_t i = 0; i < results + 1; ++i) starts_.push_back(device.make_timed_event());
  // A step in parts gives numbers twice: before its gradients and before its update.
  for (size_t i = 0; i < 2 * results; ++i)
    given_.push_back(
        {DeviceMemory(device, MemoryKind::staging, given_step_numbers * sizeof(double)), device.make_event()});
  session.transformer().begin_step();
  set_updates(0);
}

// ---- numbers that change from step to step ------------------------------------------------------------------------

void StepRunner::set_updates(int64_t updates) {
  std::array<double, step_number_count> numbers{};
  numbers[place(StepNumber::updates)] = static_cast<double>(updates);
  session_.device().upload(numbers.data(), session_.numbers());
}

int64_t StepRunner::updates() {
  std::array<double, step_number_count> numbers{};
  session_.device().download(session_.numbers(), numbers.data());
  return static_cast<int64_t>(numbers[place(StepNumber::updates)]);
}

void StepRunner::give(double target_share, double learning_rate, uint64_t sample_key) {
  Given& given = given_[next_given_];
  next_given_ = (next_given_ + 1) % given_.size();
  if (!given.taken->happened()) given.taken->wait();
  auto* numbers = static_cast<double*>(given.staging.data());
  numbers[place(StepNumber::target_share)] = target_share;
  numbers[place(StepNumber::learning_rate)] = learning_rate;
  numbers[place(StepNumber::sample_key_high)] = static_cast<double>(sample_key >> 32);
  numbers[place(StepNumber::sample_key_low)] = static_cast<double>(sample_key & 0xffffffffu);
  session_.device().enqueue_upload(numbers, session_.numbers().rows(0, given_step_numbers), Stream::compute);
  given.taken->record(Stream::compute);
}

/// Gives the device its numbers for the gradients of a step, which use no learning rate.
void StepRunner::begin(const StepData& data, double learning_rate) {
  const int64_t rows = data.sequences() * data.tokens;
  require(static_cast<int64_t>(data.inputs.size()) == rows && static_cast<int64_t>(data.targets.size()) == rows,
          "a step of {} tokens was given {} inputs and {} targets", rows, data.inputs.size(), data.targets.size());
  target_share_ = target_share(session_.grid().control().all_reduce_sum(data.valid_targets()));
  give(target_share_, learning_rate, sample_key_);
}

void StepRunner::begin_training(const StepData& data, int64_t index, double learning_rate) {
  sample_key_ = hash_key(session_.config().run.seed, "sp sample " + std::to_string(index));
  begin(data, learning_rate);
}

// ---- gradients ----------------------------------------------------------------------------------------------------

/// Names what is enqueued from now on, for the message of a fault.
void StepRunner::part(const char* what) {
  if (WorkTrail* trail = session_.device().trail()) trail->part(what, -1);
}

/// Sends each micro-batch when its turn comes.
StepRunner::BatchAt StepRunner::staging(const StepData& data) {
  return [this, &data](int64_t first, int64_t sequences) {
    return session_.stage(sequences, data.tokens, data.inputs.data() + first, data.targets.data() + first);
  };
}

void StepRunner::walk(const StepData& data, TokenSample sample, const BatchAt& batch_at,
                      const std::function<void(const MicroStep&)>& body) {
  const int64_t ranks = session_.grid().ranks(), rank = session_.grid().rank();
  const StepShape shape{.tokens = data.sequences() * data.tokens * ranks,
                        .micro_steps = static_cast<int64_t>(data.micro_batches.size()),
                        .ranks = ranks};
  int64_t first = 0;  // token of this rank
  for (const int64_t sequences : data.micro_batches) {
    const int64_t rows = sequences * data.tokens;
    sample.first_token = first * ranks + rank * rows;  // micro-step by micro-step, rank by rank
    body(MicroStep{.batch = batch_at(first, sequences),
                   .step = shape,
                   .micro_tokens = rows * ranks,
                   .numbers = session_.numbers(),
                   .sample = sample});
    first += rows;
  }
}

void StepRunner::for_each_micro_step(const StepData& data, TokenSample sample,
                                     const std::function<void(const MicroStep&)>& body) {
  begin(data, 0);
  walk(data, sample, staging(data), body);
}

void StepRunner::enqueue_gradients(const StepData& data, const Objective& objective, const BatchAt& batch_at) {
  Transformer& model = session_.transformer();
  const TokenSample sample{.fraction = objective.losses.sp_token_fraction, .numbers = session_.numbers()};
  part("zeroing of gradients");
  session_.parameters().zero_gradients(session_.ops());
  model.begin_step();
  const bool overlap = session_.config().parallel.overlap;
  size_t left = data.micro_batches.size();
  walk(data, sample, batch_at, [&](const MicroStep& micro) {
    if (--left == 0 && overlap)
      model.train(micro, objective, [this](int64_t layer) { reduction_.layer_done(layer); });
    else
      model.train(micro, objective);
  });
  Communicator& world = session_.grid().world();
  if (model.step_counts()) world.all_reduce_sum(Traffic::statistics, model.step_counts());
  world.all_reduce_sum(Traffic::statistics, model.terms());
  reduction_.finish();
}

void StepRunner::gradients(const StepData& data, const Objective& objective, int64_t index) {
  begin_training(data, index, 0);
  enqueue_gradients(data, objective, staging(data));
}

StepTerms StepRunner::accumulate(const StepData& data, const Objective& objective, int64_t index) {
  gradients(data, objective, index);
  std::array<double, term_count> values{};
  session_.device().download(session_.transformer().terms(), values.data());
  return terms_of(values.data(), objective);
}

StepTerms StepRunner::evaluate(const StepData& data, const Objective& objective) {
  Transformer& model = session_.transformer();
  model.begin_evaluation();
  for_each_micro_step(data, TokenSample{}, [&](const MicroStep& micro) { model.evaluate(micro, objective); });
  return read_terms(objective);
}

StepTerms StepRunner::evaluate_with_logits(const StepData& data, const Objective& objective,
                                           const std::function<void(const Tensor& logits)>& look) {
  Transformer& model = session_.transformer();
  const DType type = model.types().acc;
  model.begin_evaluation();
  for_each_micro_step(data, TokenSample{}, [&](const MicroStep& micro) {
    const Shape shape{micro.batch.rows(), session_.config().model.vocab_size};
    const DeviceMemory memory(session_.device(), MemoryKind::device,
                              static_cast<size_t>(shape.elements()) * size_of(type));
    const Tensor logits = memory.tensor(type, shape);
    model.evaluate(micro, objective, logits);
    look(logits);
  });
  return read_terms(objective);
}

StepTerms StepRunner::read_terms(const Objective& objective) {
  const Tensor terms = session_.transformer().terms();
  std::array<double, term_count> values{};
  session_.grid().world().all_reduce_sum(Traffic::statistics, terms);
  session_.device().download(terms, values.data());
  return terms_of(values.data(), objective);
}

StepTerms StepRunner::terms_of(const double* values, const Objective& objective) const {
  StepTerms terms;
  std::copy_n(values, term_count, terms.value.begin());
  terms.measured = objective.measured();
  for (const TermRow& row : term_table) terms.loss += objective.weight(row.term) * terms[row.term];
  return terms;
}

// ---- the update ---------------------------------------------------------------------------------------------------

/// Each logical parameter counts once, on the rank that owns it.
void StepRunner::enqueue_norm() {
  Ops& ops = session_.ops();
  const Tensor sum = session_.number_buffer();
  part("norm of the gradients");
  ops(Zero{sum});
  for (const Parameter& p : session_.parameters().all())
    if (p.owned.gradient) ops(SumOfSquares{.x = p.owned.gradient, .sum = sum});
  session_.grid().world().all_reduce_sum(Traffic::statistics, sum);
}

double StepRunner::gradient_norm() {
  enqueue_norm();
  double sum = 0;
  session_.device().download(session_.number_buffer(), &sum);
  return std::sqrt(sum);
}

void StepRunner::update(const Update& update) {
  give(target_share_, update.learning_rate, sample_key_);
  enqueue_update(update);
}

void StepRunner::enqueue_update(const Update& update) {
  if (const std::shared_ptr<Event> copied = session_.take_hold_of_update()) copied->hold(Stream::compute);
  Ops& ops = session_.ops();
  const OptimizerConfig& optimizer = update.optimizer;
  const Tensor numbers = session_.numbers();
  enqueue_norm();
  ops(ClipGradient{.sum_of_squares = session_.number_buffer(),
                   .terms = session_.transformer().terms(),
                   .max_norm = optimizer.clip_norm,
                   .after = update.after_nonfinite,
                   .numbers = numbers});
  const auto step = [&](const Parameter& p) {
    const OwnedPart& o = p.owned;
    if (o.range.elements == 0) return;
    ops(AdamW{.weight = o.master,
              .weight_act = o.has_master_copy() ? o.weight : Tensor{},
              .gradient = o.gradient,
              .m = o.m,
              .v = o.v,
              .beta1 = optimizer.beta1,
              .beta2 = optimizer.beta2,
              .eps = optimizer.eps,
              .decay = p.matrix ? optimizer.weight_decay : 0.0,
              .numbers = numbers});
  };
  ProcessGrid& grid = session_.grid();
  const std::vector<Bucket>& buckets = session_.parameters().buckets();
  grid.progress().now("the update", -1);
  part("update");
  for (size_t i = 0; i < buckets.size(); ++i) {
    for (const size_t p : buckets[i].parameters) step(session_.parameters().all()[p]);
    gathers_[i] = buckets[i].group(grid).begin_all_gather(Traffic::weights, buckets[i].weights);
  }
  const Config& config = session_.config();
  for (const Parameters::RouterBias& b : session_.parameters().router_biases())
    ops(RouterBiasUpdate{.step_counts = session_.transformer().step_counts()[b.layer - config.model.dense_layers],
                         .rate = config.moe.bias_rate,
                         .bias = b.bias,
                         .numbers = numbers});
  grid.progress().now("the gathering of weights", -1);
  for (size_t i = 0; i < buckets.size(); ++i) buckets[i].group(grid).wait(gathers_[i]);
}

// ---- a whole step, and what it came to ----------------------------------------------------------------------------

void StepRunner::step(const StepData& data, const Objective& objective, int64_t index, const Update& how) {
  if (WorkTrail* trail = session_.device().trail()) trail->step(index);
  ProcessGrid& grid = session_.grid();
  if (clock_stopped_) start_of(begun_).record(Stream::compute);
  clock_stopped_ = false;
  const TrafficCounts before = grid.traffic();
  grid.end_section();
  begin_training(data, index, how.learning_rate);
  replayed_ = false;
  if (can_record(data)) {
    enqueue_recorded(data, objective, how);
  } else {
    enqueue_gradients(data, objective, staging(data));
    enqueue_update(how);
  }
  request_result(objective, before);
}

/// A step that is larger than those of the run's configuration is enqueued as it comes. So is one that is profiled, as
/// a profile waits in every operation, and the one after a snapshot, whose update waits for an event that no recording
/// can hold.
bool StepRunner::can_record(const StepData& data) {
  const StepInputs* inputs = session_.step_inputs();
  if (inputs == nullptr || session_.ops().profile() != nullptr || session_.update_is_held()) return false;
  const bool fits = std::all_of(data.micro_batches.begin(), data.micro_batches.end(),
                                [&](int64_t sequences) { return sequences <= session_.shape().sequences; });
  return fits && data.tokens <= session_.shape().tokens && data.sequences() * data.tokens <= inputs->rows();
}

void StepRunner::enqueue_recorded(const StepData& data, const Objective& objective, const Update& update) {
  session_.stage_step(data.sequences() * data.tokens, data.inputs.data(), data.targets.data());
  Device::Recording& recording = recordings_.of({.tokens = data.tokens,
                                                 .micro_batches = data.micro_batches,
                                                 .objective = objective,
                                                 .optimizer = update.optimizer,
                                                 .after_nonfinite = update.after_nonfinite});
  const Device::Ran ran = session_.device().run(recording, [&] {
    enqueue_gradients(data, objective, [&](int64_t first, int64_t sequences) {
      return session_.step_inputs()->batch(first, sequences, data.tokens);
    });
    enqueue_update(update);
  });
  replayed_ = ran == Device::Ran::recording;
}

void StepRunner::request_result(const Objective& objective, const TrafficCounts& before) {
  require(pending_ < static_cast<int>(requests_.size()), "a step was begun with {} results of earlier ones not taken",
          pending_);
  Request& request = requests_[(first_request_ + static_cast<size_t>(pending_++)) % requests_.size()];
  request.objective = objective;
  request.traffic = session_.grid().traffic();
  request.traffic -= before;
  session_.grid().end_section();
  Device& device = session_.device();
  const Transformer& model = session_.transformer();
  auto* to = static_cast<std::byte*>(request.staging.data());
  for (const Tensor& part : {model.terms(), session_.numbers(), model.step_counts()}) {
    if (part) device.enqueue_download(part, to, Stream::compute);
    to += part.bytes();
  }
  request.arrived->record(Stream::compute);
  start_of(++begun_).record(Stream::compute);
}

StepResult StepRunner::take_result() {
  require(pending_ > 0, "the result of a step was asked for, but none is pending");
  Request& request = requests_[first_request_];
  first_request_ = (first_request_ + 1) % requests_.size();
  if (!request.arrived->happened()) request.arrived->wait();
  const auto* terms = static_cast<const double*>(request.staging.data());
  const double* numbers = terms + term_count;
  const Tensor counts = session_.transformer().step_counts();
  StepResult result{.terms = terms_of(terms, request.objective),
                    .gradient_norm = numbers[place(StepNumber::gradient_norm)],
                    .applied = numbers[place(StepNumber::apply)] != 0,
                    .seconds = request.arrived->seconds_since(start_of(begun_ - pending_)),
                    .traffic = request.traffic};
  --pending_;
  session_.grid().collect_times();  // of what was begun between this step and the one before
  result.traffic += session_.grid().collect_times();
  if (!counts) return result;
  const std::vector<double> values = widened(numbers + step_number_count, counts.dtype, counts.elements());
  result.expert_counts = rows_of(values.data(), counts.shape);
  return result;
}

ExpertCounts StepRunner::rows_of(const double* counts, const Shape& shape) const {
  ExpertCounts rows;
  for (int64_t layer = 0; layer < shape[0]; ++layer)
    rows.emplace_back(counts + layer * shape[1], counts + (layer + 1) * shape[1]);
  return rows;
}

ExpertCounts StepRunner::read_counts(const Tensor& counts) {
  if (!counts) return {};
  return rows_of(download_values(session_.ops(), counts).data(), counts.shape);
}

ExpertCounts StepRunner::expert_counts() {
  return read_counts(session_.transformer().step_counts());
}

ExpertCounts StepRunner::evaluation_counts() {
  return read_counts(session_.transformer().evaluation_counts());
}

}  // namespace strand
