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
      context_{ops, grid, *dispatcher_, step, scratch, types_, config_.model, config_.moe, config_.parallel},
      parameters_(parameters),
      rotary_(upload_rotary_table(context_, model, positions)) {
  const Shape cache{sequences, config_.model.num_kv_heads, positions, config_.model.head_dim};
  for (int64_t layer = 0; layer < config_.model.num_layers; ++layer)
    cache_.push_back(
        {model.allocate("cache.keys", types_.act, cache), model.allocate("cache.values", types_.act, cache)});
}

void Decoder::prefill(const NewTokens& prompt, const Tensor& logits) {
  context_.step.release_all();
  const Tensor hidden = forward(prompt, rotary_, Prefix::none);
  const FamilyScope family(context_.ops, OpFamily::head_loss);
  context_.ops(
      Linear{.x = hidden.rows(prompt.count() - 1, prompt.count()), .weight = parameters_.weights().head, .y = logits});
}

void Decoder::decode(const NewTokens& tokens, const Tensor& logits) {
  context_.step.release_all();
  Tensor rotary;  // the angles of each token's position, gathered once for all layers
  if (rotary_) {
    rotary = context_.step.allocate("rotary rows", types_.acc, {tokens.count(), rotary_.dim(1)});
    context_.ops(Embedding{.tokens = tokens.places.position, .table = rotary_, .x = rotary});
  }
  const Tensor hidden = forward(tokens, rotary, Prefix::cached);
  const FamilyScope family(context_.ops, OpFamily::head_loss);
  context_.ops(Linear{.x = hidden, .weight = parameters_.weights().head, .y = logits});
}

/// [T, D] act, after the last norm. Row t of `rotary` belongs to token t.
Tensor Decoder::forward(const NewTokens& tokens, const Tensor& rotary, Prefix prefix) {
  const int64_t t = tokens.count(), d = config_.model.hidden_size;
  const Batch batch{.sequences = 1, .tokens = t, .inputs = tokens.ids};
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
  FeedForwardKept dense;  // of a dense layer, or the shared expert
  if (w.dense_down) dense = FeedForwardKept::allocate(context_, batch, w);
  if (layer < config_.model.dense_layers) return feed_forward_forward(context_, w, dense, normed, branch);
  Routing routing = Routing::allocate_inference(context_, normed.dim(0));
  route_inference(context_, w, parameters_.router_bias(layer), normed, routing);
  dispatcher_->count(context_, {}, routing);
  experts_inference(context_, w, routing, dense, normed, branch);
}

}  // namespace strand
