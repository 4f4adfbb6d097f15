#include "model/session.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/error.h"
#include "model/head.h"
#include "model/step_graph.h"

namespace strand {

namespace {
constexpr int64_t scored_logits = int64_t{1} << 22;  ///< that scoring computes at a time

/// Rows of the prediction buffer of a cached purpose.
int64_t predictions(const Device& device, const Config& config, const SessionShape& shape) {
  if (shape.purpose == Purpose::scoring)
    return head_chunk_rows(shape.pass_tokens(), config.model.vocab_size,
                           {.logits = scored_logits, .least_rows = device.traits().head_chunk.least_rows});
  return shape.sequences;
}
}  // namespace

SessionBuffers SessionBuffers::allocate(Device& device, Arena& arena, const Config& config, const SessionShape& shape,
                                        const GridShape& grid) {
  SessionBuffers b;
  if (shape.cached()) {
    const int64_t tokens = shape.pass_tokens();
    b.ids = arena.allocate("inputs", DType::i32, {tokens});
    b.cache_sequence = arena.allocate("cache.sequence", DType::i32, {tokens});
    b.cache_position = arena.allocate("cache.position", DType::i32, {tokens});
  } else {
    b.batches.emplace(device, arena, shape.sequences * shape.tokens);
    if (shape.purpose == Purpose::training && no_step_graph_because(config, grid).empty())
      b.step_batches.emplace(device, arena, config.train.global_batch_size / grid.ranks * shape.tokens);
  }
  b.numbers = arena.allocate("numbers of the step", DType::f64, {step_number_count});
  b.number = arena.allocate("number", DType::f64, {1});
  if (shape.cached())
    b.prediction = arena.allocate("prediction", NumberTypes::of(config.run.precision).acc,
                                  {predictions(device, config, shape), config.model.vocab_size});
  if (shape.purpose == Purpose::scoring)
    b.rows = arena.allocate("rows to predict from", DType::i32, {b.prediction.dim(0)});
  return b;
}

// ---- the plan -----------------------------------------------------------------------------------------------------

SessionPlan plan_session(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                         const GridShape& place, const SessionUse& use) {
  PlanDevice paper_device(device);
  PlanOps ops(paper_device);
  const std::unique_ptr<ProcessGrid> grid = ProcessGrid::counting(place);
  Session session(ops, *grid, config, shape, SessionMemory::on_paper());
  use.before(session);
  ops.reset_counts();
  const GroupTraffic traffic(*grid);
  use.counted(session);
  SessionPlan plan;
  plan.work = {ops.counts(), GroupTraffic(*grid)};
  plan.work.traffic -= traffic;
  const auto arena = [](const Arena& a) { return SessionPlan::ArenaPlan{a.peak(), a.peak_records()}; };
  plan.model = arena(session.memory().model);
  plan.step = arena(session.memory().step);
  plan.scratch = arena(session.memory().scratch);
  plan.workspace = ops.workspace_bytes();
  plan.libraries = device.library_bytes;
  plan.parameters = session.parameters().elements();
  return plan;
}

SessionPlan plan_session(const Config& config, const SessionShape& shape, const DeviceTraits& device,
                         const GridShape& grid) {
  require(shape.purpose != Purpose::training, "training is planned with its step");
  const SessionUse generate{.counted = [&](Session& session) {
    // The passes that take most are the longest prompt and a full batch.
    std::vector<PlacedToken> tokens(static_cast<size_t>(shape.tokens));
    session.decoder().prefill(session.stage(tokens), session.prediction_buffer().rows(0, 1));
    tokens.resize(static_cast<size_t>(shape.sequences));
    session.decoder().decode(session.stage(tokens), session.prediction_buffer());
  }};
  const SessionUse score{.counted = [&](Session& session) {
    // Both passes, of contexts and of continuations, may be as large as the cache.
    const std::vector<PlacedToken> tokens(static_cast<size_t>(shape.pass_tokens()));
    const std::vector<int32_t> rows(static_cast<size_t>(session.prediction_buffer().dim(0)));
    session.decoder().start(session.stage(tokens), shape.sequences);
    session.decoder().logits(session.stage_rows(rows), session.prediction_buffer());
    session.decoder().extend(session.stage(tokens));
    session.decoder().logits(session.stage_rows(rows), session.prediction_buffer());
  }};
  const SessionUse evaluate{.counted = [&](Session& session) {
    const std::vector<int32_t> tokens(static_cast<size_t>(shape.sequences * shape.tokens));
    MicroStep micro{.batch = session.stage(shape.sequences, shape.tokens, tokens.data(), tokens.data()),
                    .numbers = session.numbers()};
    micro.micro_tokens = micro.batch.rows();
    micro.step = {.tokens = micro.micro_tokens};
    session.transformer().evaluate(micro, {.losses = config.losses});
  }};
  if (shape.purpose == Purpose::scoring) return plan_session(config, shape, device, grid, score);
  return plan_session(config, shape, device, grid, shape.purpose == Purpose::generation ? generate : evaluate);
}

// ---- memory -------------------------------------------------------------------------------------------------------

SessionMemory SessionMemory::on_paper() {
  return {.blocks = {},
          .model = Arena::counting("model"),
          .step = Arena::counting("step"),
          .scratch = Arena::counting("scratch")};
}

SessionMemory SessionMemory::allocate(Device& device, const GridShape& grid, const SessionPlan& plan) {
  SessionMemory memory;
  Arena* const arenas[] = {&memory.model, &memory.step, &memory.scratch};
  const size_t bytes[] = {plan.model.bytes, plan.step.bytes, plan.scratch.bytes};
  const char* const names[] = {"model", "step", "scratch"};
  for (size_t i = 0; i < memory.blocks.size(); ++i) {
    if (arenas[i] != &memory.model && grid.expert_parallel > 1) {
      // Only routing tells how many rows come to this rank's experts.
      const Arena::Source source{
          .allocate = [&device](size_t n) { return device.allocate(MemoryKind::device, n); },
          .deallocate = [&device](void* block) { device.deallocate(MemoryKind::device, block); }};
      *arenas[i] = Arena::growing(names[i], source, bytes[i]);
      continue;
    }
    memory.blocks[i] = DeviceMemory(device, MemoryKind::device, bytes[i]);
    *arenas[i] = Arena(names[i], memory.blocks[i].data(), bytes[i]);
  }
  return memory;
}

// ---- the session --------------------------------------------------------------------------------------------------

Session::Session(Ops& ops, ProcessGrid& grid, const Config& config, const SessionShape& shape, const SessionPlan& plan)
    : Session(ops, grid, config, shape, SessionMemory::allocate(ops.device(), grid.shape(), plan)) {
  ops.reserve_workspace(plan.workspace);
}

Session::Session(Ops& ops, ProcessGrid& grid, const Config& config, const SessionShape& shape, SessionMemory memory)
    : ops_(ops), grid_(grid), config_(config), shape_(shape), memory_(std::move(memory)) {
  parameters_ = std::make_unique<Parameters>(memory_.model, config_, NumberTypes::of(config_.run.precision),
                                             shape_.purpose, grid_.shape());
  if (shape_.cached()) {
    decoder_ = std::make_unique<Decoder>(ops_, grid_, config_, *parameters_, shape_.sequences, shape_.tokens,
                                         memory_.model, memory_.step, memory_.scratch);
  } else {
    transformer_ = std::make_unique<Transformer>(ops_, grid_, config_, *parameters_, shape_.tokens, memory_.model,
                                                 memory_.step, memory_.scratch);
  }
  buffers_ = SessionBuffers::allocate(device(), memory_.model, config_, shape_, grid_.shape());
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

namespace {
/// The first `count` tokens of the buffers.
NewTokens new_tokens(const SessionBuffers& b, int64_t count) {
  return {b.ids.rows(0, count), {b.cache_sequence.rows(0, count), b.cache_position.rows(0, count)}};
}
}  // namespace

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
