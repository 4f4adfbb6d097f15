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
      recordings_(session.device()),
      clock_(session.grid(), session.device().steps_ahead() == 0 ? StepClock::Use::runs : StepClock::Use::stands) {
  Device& device = session.device();
  const Transformer& model = session.transformer();
  size_t bytes = model.terms().bytes() + session.numbers().bytes() + model.step_counts().bytes();
  for (const Parameters::RouterBias& b : session.parameters().router_biases()) bytes += b.bias.bytes();
  const auto results = static_cast<size_t>(device.steps_ahead() + 1);
  for (size_t i = 0; i < results; ++i)
    requests_.push_back(
        {.staging = DeviceMemory(device, MemoryKind::staging, bytes), .arrived = device.make_timed_event()});
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
  clock_.mark(StepPart::update);
  const bool overlap = session_.config().parallel.overlap;
  const int64_t layers = session_.config().model.num_layers;
  size_t left = data.micro_batches.size();
  walk(data, sample, batch_at, [&](const MicroStep& micro) {
    const bool reduces = --left == 0 && overlap;
    model.train(micro, objective,
                {.forward_done = [this] { clock_.mark(StepPart::forward); },
                 .layer_done =
                     [this, reduces, layers](int64_t layer) {
                       if (layer == layers) clock_.mark(StepPart::head);
                       if (reduces) reduction_.layer_done(layer);
                     }});
    clock_.mark(StepPart::backward);
  });
  Communicator& world = session_.grid().world();
  if (model.step_counts()) world.all_reduce_sum(Traffic::statistics, model.step_counts());
  world.all_reduce_sum(Traffic::statistics, model.terms());
  reduction_.finish();
  clock_.mark(StepPart::backward);
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

namespace {
double decay_of(const Parameter& parameter, const OptimizerConfig& optimizer) {
  return parameter.matrix ? optimizer.weight_decay : 0.0;
}
}  // namespace

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
              .decay = decay_of(p, optimizer),
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
  if (update.size == UpdateSize::measured) enqueue_update_size(optimizer);
}

/// Each weight counts once, on the rank that owns it.
void StepRunner::enqueue_update_size(const OptimizerConfig& optimizer) {
  Ops& ops = session_.ops();
  const Tensor numbers = session_.numbers();
  const Tensor sums = numbers.rows(place(StepNumber::squared_update), place(StepNumber::squared_weight) + 1);
  part("size of the update");
  ops(Zero{sums});
  for (const Parameter& p : session_.parameters().all()) {
    const OwnedPart& o = p.owned;
    if (o.range.elements == 0) continue;
    ops(SumOfUpdates{.weight = o.master,
                     .m = o.m,
                     .v = o.v,
                     .beta1 = optimizer.beta1,
                     .beta2 = optimizer.beta2,
                     .eps = optimizer.eps,
                     .decay = decay_of(p, optimizer),
                     .numbers = numbers,
                     .squared_update = sums.rows(0, 1),
                     .squared_weight = sums.rows(1, 2)});
  }
  session_.grid().world().all_reduce_sum(Traffic::statistics, sums);
}

// ---- a whole step, and what it came to ----------------------------------------------------------------------------

void StepRunner::step(const StepData& data, const Objective& objective, int64_t index, const Update& how) {
  if (WorkTrail* trail = session_.device().trail()) trail->step(index);
  ProcessGrid& grid = session_.grid();
  if (clock_stopped_) start_of(begun_).record(Stream::compute);
  clock_stopped_ = false;
  const TrafficCounts before = grid.traffic();
  grid.end_section();
  clock_.begin();
  begin_training(data, index, how.learning_rate);
  replayed_ = false;
  if (can_record(data)) {
    enqueue_recorded(data, objective, how);
  } else {
    enqueue_gradients(data, objective, staging(data));
    enqueue_update(how);
  }
  clock_.mark(StepPart::update);
  request_result(objective, how.size, before);
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
                                                 .after_nonfinite = update.after_nonfinite,
                                                 .update_size = update.size});
  const Device::Ran ran = session_.device().run(recording, [&] {
    enqueue_gradients(data, objective, [&](int64_t first, int64_t sequences) {
      return session_.step_inputs()->batch(first, sequences, data.tokens);
    });
    enqueue_update(update);
  });
  replayed_ = ran == Device::Ran::recording;
}

void StepRunner::request_result(const Objective& objective, UpdateSize update_size, const TrafficCounts& before) {
  require(pending_ < static_cast<int>(requests_.size()), "a step was begun with {} results of earlier ones not taken",
          pending_);
  Request& request = requests_[(first_request_ + static_cast<size_t>(pending_++)) % requests_.size()];
  request.objective = objective;
  request.update_size = update_size;
  request.traffic = session_.grid().traffic();
  request.traffic -= before;
  request.parts = clock_.parts();
  session_.grid().end_section();
  Device& device = session_.device();
  const Transformer& model = session_.transformer();
  auto* to = static_cast<std::byte*>(request.staging.data());
  const auto download = [&](const Tensor& part) {
    if (part) device.enqueue_download(part, to, Stream::compute);
    to += part.bytes();
  };
  for (const Tensor& part : {model.terms(), session_.numbers(), model.step_counts()}) download(part);
  for (const Parameters::RouterBias& b : session_.parameters().router_biases()) download(b.bias);
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
  if (request.update_size == UpdateSize::measured)
    result.update_ratio =
        std::sqrt(numbers[place(StepNumber::squared_update)] / numbers[place(StepNumber::squared_weight)]);
  if (clock_.runs()) result.parts = request.parts;
  --pending_;
  session_.grid().collect_times();  // of what was begun between this step and the one before
  result.traffic += session_.grid().collect_times();
  if (!counts) return result;
  const auto* after_numbers = reinterpret_cast<const std::byte*>(numbers + step_number_count);
  const std::vector<double> values = widened(after_numbers, counts.dtype, counts.elements());
  result.expert_counts = rows_of(values.data(), counts.shape);
  result.bias_range = bias_range(after_numbers + counts.bytes());
  return result;
}

/// `values` are those of all biases, layer by layer.
std::optional<double> StepRunner::bias_range(const std::byte* values) const {
  std::optional<double> range;
  for (const Parameters::RouterBias& b : session_.parameters().router_biases()) {
    const std::vector<double> bias = widened(values, b.bias.dtype, b.bias.elements());
    const auto [least, largest] = std::minmax_element(bias.begin(), bias.end());
    range = std::max(range.value_or(0), *largest - *least);
    values += b.bias.bytes();
  }
  return range;
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
