#include "model/session.h"

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "model/head.h"
#include "model/step_graph.h"

namespace strand {

namespace {
constexpr int64_t scored_logits = int64_t{1} << 22;  ///< that scoring computes at a time

/// Rows of the prediction buffer.
int64_t predictions(const Config& config, const SessionShape& shape) {
  if (shape.purpose == Purpose::scoring)
    return head_chunk_rows(shape.pass_tokens(), config.model.vocab_size, scored_logits);
  return shape.purpose == Purpose::generation ? shape.sequences : 1;
}
}  // namespace

SessionBuffers SessionBuffers::allocate(Arena& arena, const Config& config, const SessionShape& shape,
                                        const GridShape& grid) {
  SessionBuffers b;
  if (shape.cached()) {
    const int64_t tokens = shape.pass_tokens();
    b.ids = arena.allocate("inputs", DType::i32, {tokens});
    b.cache_sequence = arena.allocate("cache.sequence", DType::i32, {tokens});
    b.cache_position = arena.allocate("cache.position", DType::i32, {tokens});
  } else {
    b.batches.emplace(arena, shape.sequences * shape.tokens);
    if (shape.purpose == Purpose::training && no_step_graph_because(config, grid).empty())
      b.step_batches.emplace(arena, config.train.global_batch_size / grid.ranks * shape.tokens);
  }
  b.numbers = arena.allocate("numbers of the step", DType::f64, {step_number_count});
  b.number = arena.allocate("number", DType::f64, {1});
  if (shape.purpose != Purpose::training)
    b.prediction = arena.allocate("prediction", NumberTypes::of(config.run.precision).acc,
                                  {predictions(config, shape), config.model.vocab_size});
  if (shape.purpose == Purpose::scoring)
    b.rows = arena.allocate("rows to predict from", DType::i32, {b.prediction.dim(0)});
  return b;
}

namespace {
/// The first tokens of the buffers.
NewTokens new_tokens(const SessionBuffers& b, int64_t count) {
  return {b.ids.rows(0, count), {b.cache_sequence.rows(0, count), b.cache_position.rows(0, count)}};
}

/// Peaks are those of the longest prompt and of a full batch.
void plan_generation(Decoder& decoder, const SessionBuffers& buffers, const SessionShape& shape) {
  decoder.prefill(new_tokens(buffers, shape.tokens), buffers.prediction.rows(0, 1));
  decoder.decode(new_tokens(buffers, shape.sequences), buffers.prediction);
}

/// Peaks are those of passes as large as the cache.
void plan_scoring(Decoder& decoder, const SessionBuffers& buffers, const SessionShape& shape) {
  const NewTokens tokens = new_tokens(buffers, shape.pass_tokens());
  decoder.start(tokens, shape.sequences);
  decoder.logits(buffers.rows, buffers.prediction);
  decoder.extend(tokens);
  decoder.logits(buffers.rows, buffers.prediction);
}

/// Peaks are those of both passes.
void plan_micro_step(Transformer& transformer, const SessionBuffers& buffers, const Config& config,
                     const SessionShape& shape) {
  MicroStep micro{.batch = buffers.batches->whole(shape.sequences, shape.tokens), .numbers = buffers.numbers};
  micro.micro_tokens = micro.batch.rows();
  micro.step = {.tokens = micro.micro_tokens};
  const Objective objective{.losses = config.losses};
  transformer.evaluate(micro, objective);
  if (shape.purpose == Purpose::training) transformer.train(micro, objective);
}
}  // namespace

SessionPlan plan_session(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                         const GridShape& place) {
  PlanDevice paper_device(device);
  PlanOps ops(paper_device);
  const std::unique_ptr<ProcessGrid> paper = ProcessGrid::counting(place);
  ProcessGrid& grid = *paper;
  Arena model = Arena::counting("model"), step = Arena::counting("step"), scratch = Arena::counting("scratch");
  const Parameters parameters(model, config, NumberTypes::of(config.run.precision), shape.purpose, place);
  SessionPlan plan;
  if (shape.cached()) {
    Decoder decoder(ops, grid, config, parameters, shape.sequences, shape.tokens, model, step, scratch);
    const SessionBuffers buffers = SessionBuffers::allocate(model, config, shape, place);
    if (shape.purpose == Purpose::scoring)
      plan_scoring(decoder, buffers, shape);
    else
      plan_generation(decoder, buffers, shape);
  } else {
    Transformer transformer(ops, grid, config, parameters, shape.tokens, model, step, scratch);
    plan_micro_step(transformer, SessionBuffers::allocate(model, config, shape, place), config, shape);
  }
  plan.model = {model.peak(), model.peak_records()};
  plan.step = {step.peak(), step.peak_records()};
  plan.scratch = {scratch.peak(), scratch.peak_records()};
  plan.parameters = parameters.elements();
  return plan;
}

Session::Session(Ops& ops, ProcessGrid& grid, const Config& config, const SessionShape& shape)
    : ops_(ops),
      grid_(grid),
      config_(config),
      shape_(shape),
      plan_(plan_session(config, shape, ops.device().traits(), grid.shape())) {
  Arena* arenas[3] = {&model_, &step_, &scratch_};
  const SessionPlan::ArenaPlan* plans[3] = {&plan_.model, &plan_.step, &plan_.scratch};
  const char* names[3] = {"model", "step", "scratch"};
  for (int i = 0; i < 3; ++i) {
    if (arenas[i] != &model_ && grid.expert_parallel() > 1) {
      // How many rows come to this rank's experts, only routing tells.
      const Arena::Source source{
          .allocate = [&ops](size_t bytes) { return ops.device().allocate(MemoryKind::device, bytes); },
          .deallocate = [&ops](void* memory) { ops.device().deallocate(MemoryKind::device, memory); }};
      *arenas[i] = Arena::growing(names[i], source, plans[i]->bytes);
      continue;
    }
    memory_[i] = DeviceMemory(ops_.device(), MemoryKind::device, plans[i]->bytes);
    *arenas[i] = Arena(names[i], memory_[i].data(), plans[i]->bytes);
  }
  parameters_ = std::make_unique<Parameters>(model_, config_, NumberTypes::of(config_.run.precision), shape_.purpose,
                                             grid_.shape());
  if (shape_.cached()) {
    decoder_ = std::make_unique<Decoder>(ops_, grid_, config_, *parameters_, shape_.sequences, shape_.tokens, model_,
                                         step_, scratch_);
  } else {
    transformer_ =
        std::make_unique<Transformer>(ops_, grid_, config_, *parameters_, shape_.tokens, model_, step_, scratch_);
  }
  buffers_ = SessionBuffers::allocate(model_, config_, shape_, grid_.shape());
  if (buffers_.batches) buffers_.batches->prepare(device());
  if (buffers_.step_batches) buffers_.step_batches->prepare(device());
}

Transformer& Session::transformer() {
  require(transformer_ != nullptr,
          "this session was set up for generation or scoring: it has a decoder, no transformer");
  return *transformer_;
}

Decoder& Session::decoder() {
  require(decoder_ != nullptr, "this session was not set up for generation or scoring: it has no decoder");
  return *decoder_;
}

void Session::check_ids(int64_t rows, const int32_t* inputs, const int32_t* targets) const {
  const int64_t vocab = config_.model.vocab_size;
  for (int64_t i = 0; i < rows; ++i) {
    require(inputs[i] >= 0 && inputs[i] < vocab, "token id {} at position {} of a batch, but the vocabulary has {}",
            inputs[i], i, vocab);
    if (targets)
      require(targets[i] < vocab, "target id {} at position {} of a batch, but the vocabulary has {}", targets[i], i,
              vocab);
  }
}

Batch Session::stage(int64_t sequences, int64_t tokens, const int32_t* inputs, const int32_t* targets) {
  require(transformer_ != nullptr, "a batch for a session that was set up for generation or scoring");
  require(sequences <= shape_.sequences && tokens <= shape_.tokens, "a batch of {} x {} in a session for {} x {}",
          sequences, tokens, shape_.sequences, shape_.tokens);
  check_ids(sequences * tokens, inputs, targets);
  return buffers_.batches->send(sequences, tokens, inputs, targets);
}

void Session::stage_step(int64_t rows, const int32_t* inputs, const int32_t* targets) {
  require(buffers_.step_batches.has_value(), "a whole step for a session whose steps are not recorded");
  check_ids(rows, inputs, targets);
  buffers_.step_batches->send(rows, inputs, targets);
}

NewTokens Session::stage(std::span<const PlacedToken> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  require(decoder_ && count > 0 && count <= buffers_.ids.dim(0), "{} new tokens in a session for {}", count,
          decoder_ ? buffers_.ids.dim(0) : 0);
  std::vector<int32_t> ids, sequence, position;
  for (const PlacedToken& t : tokens) {
    require(t.id >= 0 && t.id < config_.model.vocab_size, "token id {}, but the vocabulary has {}", t.id,
            config_.model.vocab_size);
    require(t.sequence >= 0 && t.sequence < shape_.sequences && t.position >= 0 && t.position < shape_.tokens,
            "a token at position {} of sequence {} in a cache of {} sequences of {} positions", t.position, t.sequence,
            shape_.sequences, shape_.tokens);
    ids.push_back(t.id);
    sequence.push_back(t.sequence);
    position.push_back(t.position);
  }
  const NewTokens staged = new_tokens(buffers_, count);
  ops_.device().upload(ids.data(), staged.ids);
  ops_.device().upload(sequence.data(), staged.places.sequence);
  ops_.device().upload(position.data(), staged.places.position);
  return staged;
}

Tensor Session::stage_rows(std::span<const int32_t> rows) {
  const auto count = static_cast<int64_t>(rows.size());
  require(buffers_.rows && count > 0 && count <= buffers_.rows.dim(0), "{} rows to predict from in a session for {}",
          count, buffers_.rows ? buffers_.rows.dim(0) : 0);
  for (const int32_t row : rows)
    require(row >= 0 && row < shape_.pass_tokens(), "row {} of a pass of at most {}", row, shape_.pass_tokens());
  const Tensor staged = buffers_.rows.rows(0, count);
  ops_.device().upload(rows.data(), staged);
  return staged;
}

}  // namespace strand
