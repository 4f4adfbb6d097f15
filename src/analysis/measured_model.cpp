#include "analysis/measured_model.h"

#include <cmath>

#include "analysis/count_json.h"
#include "analysis/stability.h"
#include "core/error.h"

namespace strand {

namespace {
/// A list with one number of each layer.
template <typename Value>
Json by_layer(const MeasuredModel& model, const Value& value) {
  const auto& layers = model.collected.layers;
  return json_list(static_cast<int64_t>(layers.size()),
                   [&](int64_t l) { return json_number(value(layers[static_cast<size_t>(l)])); });
}

Json sharpness_json(const MeasuredModel& model) {
  const int64_t experts = model.trace.num_experts;
  const Sharpness uniform = uniform_sharpness(experts, model.trace.top_k);
  struct Row {
    const char* name;
    double Sharpness::*field;
    enum class Floor { yes, no } floor = Floor::yes;
  };
  constexpr Row rows[] = {{"token_entropy", &Sharpness::token_entropy},
                          {"load_entropy", &Sharpness::load_entropy},
                          {"information", &Sharpness::information},
                          {"effective_experts", &Sharpness::effective_experts},
                          {"top_1", &Sharpness::top_1},
                          {"top_k", &Sharpness::top_k},
                          {"gap", &Sharpness::gap},
                          {"confident", &Sharpness::confident},
                          {"bound", &Sharpness::bound, Row::Floor::no},
                          {"logsumexp", &Sharpness::logsumexp, Row::Floor::no}};
  Json out = Json::object(), floor = Json::object();
  for (const Row& row : rows) {
    const bool no_gap = row.field == &Sharpness::gap && model.trace.top_k == experts;
    out[row.name] = by_layer(model, [&](const CollectedLayer& l) { return no_gap ? NAN : l.sharpness.*row.field; });
    if (row.floor == Row::Floor::yes) floor[row.name] = json_number(no_gap ? NAN : uniform.*row.field);
  }
  out["uniform"] = floor;
  return out;
}

Json overlap_json(const MeasuredModel& model, const std::optional<Overlap> CollectedLayer::*of, int64_t width) {
  const RandomOverlap random = random_overlap(width);
  const int64_t experts = model.trace.num_experts;
  Json histogram = Json::array(), pairs = Json::array();
  for (const CollectedLayer& layer : model.collected.layers) {
    const Overlap& overlap = *(layer.*of);
    histogram.push_back(json_list({overlap.histogram.begin(), overlap.histogram.end()}));
    pairs.push_back(json_list(experts, [&](int64_t e) {
      return json_numbers(experts, [&](int64_t v) { return overlap.pairs[static_cast<size_t>(e * experts + v)]; });
    }));
  }
  return {
      {"mean_squared_cosine", by_layer(model, [&](const CollectedLayer& l) { return (l.*of)->mean_squared_cosine; })},
      {"mean_absolute_cosine", by_layer(model, [&](const CollectedLayer& l) { return (l.*of)->mean_absolute_cosine; })},
      {"random",
       {{"mean_squared_cosine", json_number(random.mean_squared_cosine)},
        {"mean_absolute_cosine", json_number(random.mean_absolute_cosine)}}},
      {"histogram", std::move(histogram)},
      {"pairs", std::move(pairs)}};
}

Json geometry_json(const MeasuredModel& model) {
  const std::vector<InputCosine>& inputs = model.collected.input_cosines;
  const auto pairs = static_cast<int64_t>(inputs.size());
  return {{"input_cosine", json_numbers(pairs, [&](int64_t i) { return inputs[static_cast<size_t>(i)].same_token; })},
          {"input_cosine_other_token",
           json_numbers(pairs, [&](int64_t i) { return inputs[static_cast<size_t>(i)].other_token; })},
          {"router_cosine", by_layer(model, [](const CollectedLayer& l) { return l.router.mean; })},
          {"router_cosine_max", by_layer(model, [](const CollectedLayer& l) { return l.router.max; })},
          {"chosen_cosine", by_layer(model, [](const CollectedLayer& l) { return l.choice.chosen; })},
          {"any_cosine", by_layer(model, [](const CollectedLayer& l) { return l.choice.any; })},
          {"random_router_cosine", json_number(random_overlap(model.hidden_size).mean_absolute_cosine)}};
}

Json weights_json(const MeasuredModel& model) {
  const int64_t experts = model.trace.num_experts;
  Json pairs = Json::array();
  for (const CollectedLayer& layer : model.collected.layers) {
    pairs.push_back(json_list(experts, [&](int64_t e) {
      return json_numbers(experts,
                          [&](int64_t v) { return layer.weights.pairs[static_cast<size_t>(e * experts + v)]; });
    }));
  }
  const RandomOverlap random = random_overlap(3 * model.hidden_size * model.expert_ffn);
  return {{"mean_cosine", by_layer(model, [](const CollectedLayer& l) { return l.weights.mean; })},
          {"mean_absolute_cosine", by_layer(model, [](const CollectedLayer& l) { return l.weights.mean_absolute; })},
          {"max_absolute_cosine", by_layer(model, [](const CollectedLayer& l) { return l.weights.max_absolute; })},
          {"random", {{"mean_absolute_cosine", json_number(random.mean_absolute_cosine)}}},
          {"pairs", std::move(pairs)}};
}

Json terms_json(const MeasuredModel& model) {
  Json terms = Json::object();
  for (const auto& [name, value] : model.terms) terms[name] = json_number(value);
  return terms;
}

Json redundancy_json(const MeasuredModel& model) {
  if (model.redundancy.empty()) return nullptr;
  Json out = Json::array();
  for (const MaskedLoss& loss : model.redundancy)
    out.push_back({{"masked", loss.masked}, {"ce", json_number(loss.ce)}});
  return out;
}

/// Two routings of the same tokens: lists of each share, their shuffled floors, and chance.
Json agreement_json(const Trace& one, const Trace& other) {
  const std::vector<int32_t> order = floor_order(one.token_count());
  Json out = Json::object();
  for (const char* name : {"top_1", "top_k", "set"}) out[name] = Json::array();
  const auto add = [&](const Agreement& a, const std::string& ending) {
    out["top_1" + ending].push_back(json_number(a.top_1));
    out["top_k" + ending].push_back(json_number(a.top_k));
    out["set" + ending].push_back(json_number(a.set));
  };
  for (int64_t l = 0; l < one.layer_count(); ++l) {
    add(agreement(one.layer(l), other.layer(l)), "");
    add(agreement(one.layer(l), other.layer(l).in_order(order)), "_shuffled");
  }
  const Agreement chance = chance_agreement(one.num_experts, one.top_k);
  out["chance"] = {
      {"top_1", json_number(chance.top_1)}, {"top_k", json_number(chance.top_k)}, {"set", json_number(chance.set)}};
  return out;
}
}  // namespace

double MeasuredModel::term(const std::string& wanted) const {
  for (const auto& [term, value] : terms)
    if (term == wanted) return value;
  fail("the term {} of {} was not measured", wanted, name);
}

Json model_json(const MeasuredModel& model) {
  const Trace& trace = model.trace;
  const auto layers = static_cast<double>(trace.layer_count()), k = static_cast<double>(trace.top_k);
  Json losses = Json::object();
  for (const auto& [key, weight] : model.losses) losses[key] = json_number(weight);
  Json out = {{"name", model.name},
              {"path", model.path},
              {"step", trace.step},
              {"layers", trace.layers},
              {"experts", trace.num_experts},
              {"top_k", trace.top_k},
              {"hidden_size", model.hidden_size},
              {"expert_ffn", model.expert_ffn},
              {"losses", std::move(losses)},
              {"trace", model.trace_file},
              {"terms", terms_json(model)},
              {"perplexity", json_number(std::exp(model.term("ce")))},
              {"sp_normalized", json_number(k > 1 ? model.term("sp") / (layers * k * (k - 1)) : NAN)},
              {"cp_normalized", json_number(layers > 1 ? -model.term("cp") / (layers - 1) : NAN)}};
  out["load"] = load_json(trace);
  out["sharpness"] = sharpness_json(model);
  out["coupling"] = coupling_json(trace);
  out["overlap"] = nullptr;
  if (trace.top_k > 1)
    out["overlap"] = {{"z", overlap_json(model, &CollectedLayer::z, model.expert_ffn)},
                      {"y", overlap_json(model, &CollectedLayer::y, model.hidden_size)}};
  out["weights"] = weights_json(model);
  out["geometry"] = geometry_json(model);
  out["coactivation"] = coactivation_json(trace);
  out["repetition"] = repetition_json(trace);
  out["domains"] = domains_json(trace, model.domain_ce);
  out["flows"] = flows_json(trace);
  out["vocabulary"] = vocabulary_json(trace, model.piece);
  out["lookahead"] = lookahead_json(trace, model.collected);
  out["placement"] = placement_json(trace, model.hidden_size * model.activation_bytes);
  out["clusters"] = clusters_json(trace, model.collected);
  out["redundancy"] = redundancy_json(model);
  return out;
}

void add_stability(Json& analysis, const std::vector<Trace>& traces, const std::vector<std::vector<size_t>>& runs) {
  Json stability = Json::array(), saturation = Json::array();
  for (const std::vector<size_t>& run : runs) {
    for (size_t i = 0; i + 1 < run.size(); ++i) {
      const size_t from = run[i], to = run[i + 1], last = run.back();
      Json next = {{"from", from}, {"to", to}, {"steps", {traces[from].step, traces[to].step}}};
      next.update(agreement_json(traces[from], traces[to]));
      stability.push_back(std::move(next));
      const Json end = agreement_json(traces[from], traces[last]);
      saturation.push_back({{"model", from},
                            {"of", last},
                            {"step", traces[from].step},
                            {"top_k", end["top_k"]},
                            {"top_k_shuffled", end["top_k_shuffled"]},
                            {"chance", {{"top_k", end["chance"]["top_k"]}}}});
    }
  }
  analysis["stability"] = std::move(stability);
  analysis["saturation"] = std::move(saturation);
}

}  // namespace strand
