#include "model/decoder.h"

#include "model/experts.h"
#include "model/feed_forward.h"
#include "model/routing.h"

namespace strand {

Decoder::Decoder(Ops& ops, ProcessGrid& grid, const Config& config, const Parameters& parameters, int64_t sequences,
                 int64_t positions, Arena& model, Arena& step, Arena& scratch)
    : config_(config),
      types_(NumberTypes::of(config.run.precision)),
      dispatcher_(make_dispatcher(grid, ops.device(), config.moe.num_experts)),
      context_(Context::of(ops, grid, *dispatcher_, config_, step, scratch)),
      parameters_(parameters),
      rotary_(upload_rotary_table(context_, model, positions)) {
  for (int64_t layer = 0; layer < config_.model.num_layers; ++layer)
    cache_.push_back(LayerCache::allocate(model, config_.model, types_.act, sequences, positions));
}

void Decoder::prefill(const NewTokens& prompt, const Tensor& logits) {
  context_.step.release_all();
  const Tensor hidden = forward(prompt, 1, rotary_, Prefix::none);
  const FamilyScope family(context_.ops, OpFamily::head_loss);
  context_.ops(
      Linear{.x = hidden.rows(prompt.count() - 1, prompt.count()), .weight = parameters_.weights().head, .y = logits});
}

void Decoder::decode(const NewTokens& tokens, const Tensor& logits) {
  context_.step.release_all();
  const Tensor hidden = forward(tokens, 1, gathered_rotary(tokens), Prefix::cached);
  const FamilyScope family(context_.ops, OpFamily::head_loss);
  context_.ops(Linear{.x = hidden, .weight = parameters_.weights().head, .y = logits});
}

void Decoder::start(const NewTokens& tokens, int64_t sequences) {
  context_.step.release_all();
  hidden_ = forward(tokens, sequences, rotary_, Prefix::none);
}

void Decoder::extend(const NewTokens& tokens) {
  context_.step.release_all();
  hidden_ = forward(tokens, 1, gathered_rotary(tokens), Prefix::cached);
}

void Decoder::copy_sequence(int64_t from, int64_t to) {
  for (const LayerCache& layer : cache_) {
    context_.ops(Copy{.from = layer.keys[from], .to = layer.keys[to]});
    if (layer.values) context_.ops(Copy{.from = layer.values[from], .to = layer.values[to]});
  }
}

void Decoder::logits(const Tensor& rows, const Tensor& logits) {
  const FamilyScope family(context_.ops, OpFamily::head_loss);
  const Arena::Scope scope(context_.step);
  const Shape shape{rows.dim(0), config_.model.hidden_size};
  // Embedding gives rows of a table, widened to acc. They were act before, so rounding them back is exact.
  Tensor x = context_.step.allocate("chosen rows", types_.acc, shape);
  context_.ops(Embedding{.tokens = rows, .table = hidden_, .x = x});
  if (!types_.one_type()) {
    const Tensor rounded = context_.step.allocate("chosen rows (act)", types_.act, shape);
    context_.ops(Cast{.from = x, .to = rounded});
    x = rounded;
  }
  context_.ops(Linear{.x = x, .weight = parameters_.weights().head, .y = logits});
}

/// The angles of each token's position [T, R] acc, gathered once for all layers. None when nothing is rotated.
Tensor Decoder::gathered_rotary(const NewTokens& tokens) {
  if (!rotary_) return {};
  const Tensor rotary = context_.step.allocate("rotary rows", types_.acc, {tokens.count(), rotary_.dim(1)});
  context_.ops(Embedding{.tokens = tokens.places.position, .table = rotary_, .x = rotary});
  return rotary;
}

/// Returns [T, D] act, the output of the last norm. Row s of `rotary` belongs to token s of each sequence.
Tensor Decoder::forward(const NewTokens& tokens, int64_t sequences, const Tensor& rotary, Prefix prefix) {
  const int64_t t = tokens.count(), d = config_.model.hidden_size;
  const Batch batch{.sequences = sequences, .tokens = t / sequences, .inputs = tokens.ids};
  const Tensor x = context_.step.allocate("x", types_.acc, {t, d});
  const Tensor branch = context_.step.allocate("branch", types_.acc, {t, d});
  const Tensor normed = context_.step.allocate("normed", types_.act, {t, d});
  const Tensor rstd = context_.step.allocate("rstd", types_.acc, {t});
  const auto add_norm = [&](const Tensor& added, const Tensor& weight) {
    context_.ops(AddRmsNorm{.residual = x,
                            .branch = added,
                            .weight = weight,
                            .eps = config_.model.norm_eps,
                            .sum = added ? x : Tensor{},
                            .y = normed,
                            .rstd = rstd});
  };
  context_.ops(Embedding{.tokens = tokens.ids, .table = parameters_.weights().embed, .x = x});
  for (int64_t layer = 0; layer < config_.model.num_layers; ++layer) {
    const LayerTensors& w = parameters_.weights().layers[size_t(layer)];
    add_norm(layer > 0 ? branch : Tensor{}, w.attn_norm);
    attention_cached(context_, batch, w, rotary, tokens.places, cache_[size_t(layer)], prefix, normed, branch);
    add_norm(branch, w.ffn_norm);
    feed_forward(layer, normed, branch);
  }
  add_norm(branch, parameters_.weights().norm);
  return normed;
}

void Decoder::feed_forward(int64_t layer, const Tensor& normed, const Tensor& branch) {
  const Arena::Scope scope(context_.step);
  const LayerTensors& w = parameters_.weights().layers[size_t(layer)];
  const Batch batch{.sequences = 1, .tokens = normed.dim(0)};
  FeedForwardKept kept;  // of a dense layer, or of the shared expert
  if (w.feed_forward_down) kept = FeedForwardKept::allocate(context_, batch, w);
  if (layer < config_.model.dense_layers) return feed_forward_forward(context_, w, kept, normed, branch);
  Routing routing = Routing::allocate_without_terms(context_, normed.dim(0));
  route_inference(context_, w, parameters_.router_bias(layer), normed, routing);
  dispatcher_->count(context_, {}, routing);
  experts_inference(context_, w, routing, kept, normed, branch);
}

}  // namespace strand
