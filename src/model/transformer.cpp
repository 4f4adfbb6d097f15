#include "model/transformer.h"

#include <fmt/core.h>

#include <optional>

#include "core/error.h"
#include "model/head.h"

namespace strand {

Transformer::Transformer(Ops& ops, ProcessGrid& grid, const Config& config, const Parameters& parameters,
                         int64_t positions, Arena& model, Arena& step, Arena& scratch)
    : config_(config),
      types_(NumberTypes::of(config.run.precision)),
      dispatcher_(make_dispatcher(grid, ops.device(), config.moe.num_experts)),
      context_(Context::of(ops, grid, *dispatcher_, config_, step, scratch)),
      parameters_(parameters) {
  rotary_ = upload_rotary_table(context_, model, positions);
  terms_ = model.allocate("terms", DType::f64, {term_count});
  if (moe_layers() == 0) return;
  const Shape counts{moe_layers(), config_.moe.num_experts};
  step_counts_ = model.allocate("selection counts", types_.acc, counts);
  evaluation_counts_ = model.allocate("selection counts (evaluation)", types_.acc, counts);
}

void Transformer::begin_step() {
  expert_rows_ = 0;
  context_.ops(Zero{terms_});
  if (step_counts_) context_.ops(Zero{step_counts_});
}

void Transformer::begin_evaluation() {
  context_.ops(Zero{terms_});
  if (evaluation_counts_) context_.ops(Zero{evaluation_counts_});
}

const Routing& Transformer::routing(int64_t moe_layer) const {
  return kept_.at(static_cast<size_t>(moe_layer + config_.model.dense_layers)).routing;
}

const PairGrams& Transformer::pair_grams(int64_t moe_layer) const {
  return kept_.at(static_cast<size_t>(moe_layer + config_.model.dense_layers)).grams;
}

std::vector<std::pair<std::string, Tensor>> Transformer::residual_streams() const {
  std::vector<std::pair<std::string, Tensor>> streams;
  for (size_t layer = 0; layer < kept_.size(); ++layer) {
    streams.emplace_back(fmt::format("layers.{}.x_in", layer), kept_[layer].x_in);
    if (!middle_) streams.emplace_back(fmt::format("layers.{}.x_mid", layer), kept_[layer].x_mid);
  }
  if (final_x_) streams.emplace_back("final.x", final_x_);
  return streams;
}

LossContext Transformer::loss_context(const MicroStep& micro, const Objective& objective, LossContext::Use use) const {
  LossContext loss{
      objective,
      LossScale(objective, config_.moe, micro.step, {micro.batch.sequences, micro.batch.tokens, micro.micro_tokens}),
      micro.sample,
      micro.numbers,
      terms_,
      objective.measured(),
      use};
  if (use == LossContext::Use::evaluation) loss.scale.leave_out_gradients();
  return loss;
}

// ---- forward ------------------------------------------------------------------------------------------------------

void Transformer::allocate_block(LayerKept& kept, const Batch& batch) {
  const int64_t t = batch.rows(), d = config_.model.hidden_size;
  kept.x_mid = middle_ ? middle_ : context_.step.allocate("x_mid", types_.acc, {t, d});
  kept.attention = AttentionKept::allocate(context_, batch);
  kept.ffn_normed = context_.step.allocate("ffn.normed", types_.act, {t, d});
  kept.ffn_rstd = context_.step.allocate("ffn.rstd", types_.acc, {t});
}

void Transformer::allocate_feed_forward(LayerKept& kept, int64_t layer, const Batch& batch) {
  if (has_feed_forward(layer))
    kept.feed_forward = FeedForwardKept::allocate(context_, batch, parameters_.weights().layers[size_t(layer)]);
}

/// Computes x_in → normed → attention → x_mid → normed. On the first pass x_in is made here, from the layer below.
void Transformer::attention_half(int64_t layer, const Batch& batch, ForwardPass pass) {
  const LayerTensors& w = parameters_.weights().layers[size_t(layer)];
  const LayerKept& kept = kept_[size_t(layer)];
  const bool sum = pass == ForwardPass::first && layer > 0;
  context_.part(pass == ForwardPass::first ? "attention (forward)" : "attention (computed again)", layer);
  context_.ops(AddRmsNorm{.residual = sum ? residual_ : kept.x_in,
                          .branch = sum ? branch_ : Tensor{},
                          .weight = w.attn_norm,
                          .eps = config_.model.norm_eps,
                          .sum = sum ? kept.x_in : Tensor{},
                          .y = kept.attention.normed,
                          .rstd = kept.attention.rstd});
  attention_forward(context_, batch, w, rotary_, kept.attention, branch_);
  context_.ops(AddRmsNorm{.residual = kept.x_in,
                          .branch = branch_,
                          .weight = w.ffn_norm,
                          .eps = config_.model.norm_eps,
                          .sum = kept.x_mid,
                          .y = kept.ffn_normed,
                          .rstd = kept.ffn_rstd});
  residual_ = kept.x_mid;
}

ExpertLayer Transformer::expert_layer(int64_t layer, const LossContext& loss) const {
  const LayerKept& kept = kept_[size_t(layer)];
  return {.w = parameters_.weights().layers[size_t(layer)],
          .routing = kept.routing,
          .kept = kept.experts,
          .shared = kept.feed_forward,
          .x = kept.ffn_normed,
          .grams = kept.grams,
          .loss = &loss};
}

/// Computes branch = ffn(normed), with routing and its terms.
void Transformer::ffn_half(int64_t layer, const LossContext& loss) {
  const LayerTensors& w = parameters_.weights().layers[size_t(layer)];
  LayerKept& kept = kept_[size_t(layer)];
  if (!is_moe(layer)) {
    context_.part("feed-forward (forward)", layer);
    return feed_forward_forward(context_, w, kept.feed_forward, kept.ffn_normed, branch_);
  }
  context_.part("router (forward)", layer);
  route_forward(context_, layer - config_.model.dense_layers, w, parameters_.router_bias(layer), kept.ffn_normed,
                kept.routing, loss, counts_of(layer, loss.use));
  if (layer > config_.model.dense_layers)
    coupling_forward(context_, kept_[size_t(layer - 1)].routing, kept.routing, loss);
  dispatcher_->count(context_, loss.sample, kept.routing);
  if (loss.use == LossContext::Use::training) expert_rows_ += dispatcher_->rows_here(kept.routing);
  kept.experts = allocate_experts(context_, kept.routing, loss);
  context_.part("experts (forward)", layer);
  experts_forward(context_, expert_layer(layer, loss), branch_);
}

void Transformer::forward(const Batch& batch, const LossContext& loss, Recompute recompute) {
  const int64_t t = batch.rows(), d = config_.model.hidden_size;
  require(!rotary_ || batch.tokens <= rotary_.dim(0), "a sequence of {} tokens, but the model was set up for {}",
          batch.tokens, rotary_ ? rotary_.dim(0) : 0);
  Arena& step = context_.step;
  step.release_all();
  kept_.assign(static_cast<size_t>(config_.model.num_layers), {});
  branch_ = step.allocate("branch", types_.acc, {t, d});
  middle_ = recompute == Recompute::block ? step.allocate("x_mid (shared)", types_.acc, {t, d}) : Tensor{};

  for (int64_t layer = 0; layer < config_.model.num_layers; ++layer) {
    context_.grid.progress().now("forward", layer);
    LayerKept& kept = kept_[size_t(layer)];
    kept.x_in = step.allocate("x_in", types_.acc, {t, d});
    if (layer == 0) context_.part("embedding (forward)");
    if (layer == 0)
      context_.ops(Embedding{.tokens = batch.inputs, .table = parameters_.weights().embed, .x = kept.x_in});
    if (is_moe(layer)) {
      kept.routing = Routing::allocate(context_, batch, loss);
      kept.grams = allocate_pair_grams(context_, t, loss);
    }
    std::optional<Arena::Scope> block, experts;
    if (recompute == Recompute::block) block.emplace(step);
    allocate_block(kept, batch);
    if (recompute == Recompute::experts) experts.emplace(step);
    allocate_feed_forward(kept, layer, batch);
    attention_half(layer, batch, ForwardPass::first);
    ffn_half(layer, loss);
  }
  context_.grid.progress().now("head", -1);
  context_.part("head");
  final_x_ = step.allocate("final.x", types_.acc, {t, d});
  final_normed_ = step.allocate("final.normed", types_.act, {t, d});
  final_rstd_ = step.allocate("final.rstd", types_.acc, {t});
  context_.ops(AddRmsNorm{.residual = residual_,
                          .branch = branch_,
                          .weight = parameters_.weights().norm,
                          .eps = config_.model.norm_eps,
                          .sum = final_x_,
                          .y = final_normed_,
                          .rstd = final_rstd_});
}

void Transformer::evaluate(const MicroStep& micro, const Objective& objective, const Tensor& logits,
                           ForwardObserver* observer) {
  LossContext loss = loss_context(micro, objective, LossContext::Use::evaluation);
  loss.observer = observer;
  forward(micro.batch, loss, Recompute::block);
  head_loss(context_, parameters_.weights().head, final_normed_, micro.batch.targets, loss, {}, {}, logits);
}

// ---- backward -----------------------------------------------------------------------------------------------------

void Transformer::train(const MicroStep& micro, const Objective& objective, const TrainHooks& hooks) {
  const auto done = [&](int64_t layer) {
    if (hooks.layer_done) hooks.layer_done(layer);
  };
  const LossContext loss = loss_context(micro, objective, LossContext::Use::training);
  const Batch& batch = micro.batch;
  const Recompute recompute = config_.train.recompute;
  forward(batch, loss, recompute);
  if (hooks.forward_done) hooks.forward_done();

  Arena& step = context_.step;
  dresidual_ = step.allocate("dresidual", types_.acc, final_x_.shape);
  dresidual_act_ = types_.one_type() ? Tensor{} : step.allocate("dresidual (act)", types_.act, final_x_.shape);
  {
    const Arena::Scope scope(context_.scratch);
    const Tensor dhidden = context_.scratch.allocate("dhidden", types_.acc, final_x_.shape);
    head_loss(context_, parameters_.weights().head, final_normed_, batch.targets, loss, dhidden,
              parameters_.gradients().head, {});
    context_.ops(RmsNormBackward{.dy = dhidden,
                                 .x = final_x_,
                                 .weight = parameters_.weights().norm,
                                 .rstd = final_rstd_,
                                 .write = Write::overwrite,
                                 .dresidual = dresidual_,
                                 .dresidual_act = dresidual_act_,
                                 .dweight = parameters_.gradients().norm});
  }
  done(config_.model.num_layers);
  for (int64_t layer = config_.model.num_layers - 1; layer >= 0; --layer) {
    backward_layer(layer, batch, loss, recompute);
    done(layer);
  }
  context_.part("embedding (backward)");
  context_.ops(EmbeddingBackward{.tokens = batch.inputs, .dx = dresidual_, .dtable = parameters_.gradients().embed});
  done(-1);
}

void Transformer::ffn_recompute(int64_t layer, const Batch& batch, const LossContext& loss) {
  const LayerTensors& w = parameters_.weights().layers[size_t(layer)];
  LayerKept& kept = kept_[size_t(layer)];
  allocate_feed_forward(kept, layer, batch);
  context_.part(is_moe(layer) ? "experts (computed again)" : "feed-forward (computed again)", layer);
  if (!is_moe(layer)) return feed_forward_recompute(context_, w, kept.feed_forward, kept.ffn_normed);
  kept.experts = allocate_experts(context_, kept.routing, loss);
  experts_recompute(context_, expert_layer(layer, loss));
}

/// Overwrites dnormed with the gradient of ffn_normed.
void Transformer::ffn_backward(int64_t layer, const LossContext& loss, const Tensor& dnormed) {
  const LayerTensors& w = parameters_.weights().layers[size_t(layer)];
  const LayerTensors& dw = parameters_.gradients().layers[size_t(layer)];
  const LayerKept& kept = kept_[size_t(layer)];
  context_.part(is_moe(layer) ? "experts (backward)" : "feed-forward (backward)", layer);
  if (!is_moe(layer))
    return feed_forward_backward(context_, w, dw, kept.feed_forward, kept.ffn_normed, gradient_act(), dnormed);
  const Arena::Scope scope(context_.scratch);
  const Tensor dgates = context_.scratch.allocate("dgates", types_.acc, kept.routing.gates.shape);
  experts_backward(context_, expert_layer(layer, loss), dw, gradient_act(), dnormed, dgates);
  const Routing* below = layer > config_.model.dense_layers ? &kept_[size_t(layer - 1)].routing : nullptr;
  const Routing* above = layer + 1 < config_.model.num_layers ? &kept_[size_t(layer + 1)].routing : nullptr;
  context_.part("router (backward)", layer);
  route_backward(context_, w, dw, kept.ffn_normed, kept.routing, below, above, loss, dgates, dnormed);
}

void Transformer::backward_layer(int64_t layer, const Batch& batch, const LossContext& loss, Recompute recompute) {
  const LayerTensors& w = parameters_.weights().layers[size_t(layer)];
  const LayerTensors& dw = parameters_.gradients().layers[size_t(layer)];
  context_.grid.progress().now("backward", layer);
  LayerKept& kept = kept_[size_t(layer)];
  const Arena::Scope recomputed(context_.step);
  if (recompute == Recompute::block) {
    allocate_block(kept, batch);
    attention_half(layer, batch, ForwardPass::again);
    ffn_recompute(layer, batch, loss);
  } else if (recompute == Recompute::experts) {
    ffn_recompute(layer, batch, loss);
  }
  const Arena::Scope scope(context_.scratch);
  const Tensor dnormed = context_.scratch.allocate("dnormed", types_.acc, kept.x_in.shape);
  const auto norm_backward = [&](const Tensor& x, const Tensor& rstd, const Tensor& weight, const Tensor& dweight) {
    context_.ops(RmsNormBackward{.dy = dnormed,
                                 .x = x,
                                 .weight = weight,
                                 .rstd = rstd,
                                 .write = Write::accumulate,
                                 .dresidual = dresidual_,
                                 .dresidual_act = dresidual_act_,
                                 .dweight = dweight});
  };
  ffn_backward(layer, loss, dnormed);
  norm_backward(kept.x_mid, kept.ffn_rstd, w.ffn_norm, dw.ffn_norm);
  context_.part("attention (backward)", layer);
  attention_backward(context_, batch, w, dw, rotary_, kept.attention, gradient_act(), dnormed);
  norm_backward(kept.x_in, kept.attention.rstd, w.attn_norm, dw.attn_norm);
}

}  // namespace strand
