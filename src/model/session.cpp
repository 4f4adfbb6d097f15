#include "model/session.h"

#include <memory>

#include "core/error.h"

namespace strand {

namespace {
Tensor token_buffer(Arena& arena, const char* name, const SessionShape& shape) {
  return arena.allocate(name, DType::i32, {shape.sequences * shape.tokens});
}

/// Next-token logits of one sequence; a training session has none.
Tensor prediction(Arena& arena, const Config& config, const SessionShape& shape) {
  if (shape.purpose == Purpose::training) return {};
  return arena.allocate("prediction", NumberTypes::of(config.run.precision).acc, {1, config.model.vocab_size});
}

void update_all(Ops& ops, const Parameters& parameters) {
  for (const Parameter& p : parameters.all())
    ops(AdamW{.weight = p.master,
              .weight_act = p.act.data == p.master.data ? Tensor{} : p.act,
              .gradient = p.gradient,
              .m = p.m,
              .v = p.v,
              .updates = 1});
}
}  // namespace

SessionPlan plan_session(const Config& config, const SessionShape& shape, int64_t row_alignment) {
  PlanOps ops(row_alignment);
  SelfCommunicator self;
  Arena model = Arena::counting("model"), step = Arena::counting("step"), scratch = Arena::counting("scratch");
  const Parameters parameters(model, config, NumberTypes::of(config.run.precision), shape.purpose);
  Transformer transformer(ops, self, config, parameters, shape.tokens, model, step, scratch);
  const Tensor inputs = token_buffer(model, "inputs", shape), targets = token_buffer(model, "targets", shape);

  model.allocate("number", DType::f64, {1});
  prediction(model, config, shape);

  MicroStep micro{.batch = {shape.sequences, shape.tokens, inputs, targets}};
  micro.micro_tokens = micro.batch.rows();
  micro.step = {.tokens = micro.micro_tokens, .valid_targets = micro.micro_tokens};
  const Objective objective{.losses = config.losses};
  SessionPlan plan;
  // Peaks are those of both passes; counts are those of the pass that the session is for.
  transformer.evaluate(micro, objective);
  plan.micro_step = ops.counts();
  if (shape.purpose == Purpose::training) {
    ops.reset_counts();
    transformer.train(micro, objective);
    plan.micro_step = ops.counts();
    ops.reset_counts();
    update_all(ops, parameters);
    plan.update = ops.counts();
  }
  plan.model = {model.peak(), model.peak_records()};
  plan.step = {step.peak(), step.peak_records()};
  plan.scratch = {scratch.peak(), scratch.peak_records()};
  plan.parameters = parameters.elements();
  return plan;
}

Session::Session(Ops& ops, Communicator& ranks, const Config& config, const SessionShape& shape)
    : ops_(ops),
      ranks_(ranks),
      config_(config),
      shape_(shape),
      plan_(plan_session(config, shape, ops.row_alignment())),
      ignored_(static_cast<size_t>(shape.sequences * shape.tokens), -1) {
  Arena* arenas[3] = {&model_, &step_, &scratch_};
  const SessionPlan::ArenaPlan* plans[3] = {&plan_.model, &plan_.step, &plan_.scratch};
  const char* names[3] = {"model", "step", "scratch"};
  for (int i = 0; i < 3; ++i) {
    memory_[i] = ops_.allocate(plans[i]->bytes);
    *arenas[i] = Arena(names[i], memory_[i], plans[i]->bytes);
  }
  parameters_ = std::make_unique<Parameters>(model_, config_, NumberTypes::of(config_.run.precision), shape_.purpose);
  transformer_ =
      std::make_unique<Transformer>(ops_, ranks_, config_, *parameters_, shape_.tokens, model_, step_, scratch_);
  inputs_ = token_buffer(model_, "inputs", shape_);
  targets_ = token_buffer(model_, "targets", shape_);
  number_ = model_.allocate("number", DType::f64, {1});
  prediction_ = prediction(model_, config_, shape_);
}

Session::~Session() {
  for (void* memory : memory_)
    if (memory) ops_.deallocate(memory);
}

Batch Session::stage(int64_t sequences, int64_t tokens, const int32_t* inputs, const int32_t* targets) {
  const int64_t rows = sequences * tokens;
  require(sequences <= shape_.sequences && tokens <= shape_.tokens, "a batch of {} x {} in a session for {} x {}",
          sequences, tokens, shape_.sequences, shape_.tokens);
  const int64_t vocab = config_.model.vocab_size;
  for (int64_t i = 0; i < rows; ++i) {
    require(inputs[i] >= 0 && inputs[i] < vocab, "token id {} at position {} of a batch, but the vocabulary has {}",
            inputs[i], i, vocab);
    if (targets)
      require(targets[i] < vocab, "target id {} at position {} of a batch, but the vocabulary has {}", targets[i], i,
              vocab);
  }
  const Batch batch{sequences, tokens, inputs_.rows(0, rows), targets_.rows(0, rows)};
  ops_.upload(inputs, batch.inputs);
  ops_.upload(targets ? targets : ignored_.data(), batch.targets);
  return batch;
}

}  // namespace strand
