#include "analysis/count_json.h"

#include "analysis/coactivation.h"
#include "analysis/coupling.h"
#include "analysis/load.h"
#include "analysis/placement.h"
#include "analysis/repetition.h"
#include "analysis/uniform_routing.h"
#include "core/random.h"

namespace strand {

namespace {
Json load_numbers(const Load& load) {
  return {{"max_violation", json_number(load.max_violation)},
          {"min_violation", json_number(load.min_violation)},
          {"cv", json_number(load.cv)},
          {"gini", json_number(load.gini)},
          {"dead", json_number(load.dead)},
          {"diversity", json_number(load.diversity)}};
}

/// One object with a list of each number, from objects with one number each.
Json columns_of(const Json& rows) {
  Json columns = Json::object();
  for (const Json& row : rows)
    for (const auto& [key, value] : row.items()) columns[key].push_back(value);
  return columns;
}

/// The means over draws of objects of numbers.
Json mean_of(const std::vector<Json>& draws) {
  Json mean = Json::object();
  for (const auto& [key, first] : draws.front().items()) {
    double sum = 0;
    for (const Json& draw : draws) sum += draw.at(key).get<double>();
    mean[key] = json_number(sum / static_cast<double>(draws.size()));
  }
  return mean;
}

Json uniform_load(const Trace& trace) {
  const std::vector<int64_t> rank_counts = rank_numbers(trace.num_experts);
  std::vector<Json> draws;
  std::vector<double> max_load(rank_counts.size());
  for_each_uniform_draw(trace.token_count(), 1, trace.num_experts, trace.top_k, [&](const Trace& uniform) {
    const std::vector<int64_t> counts = expert_counts(uniform.layer(0));
    draws.push_back(load_numbers(measure_load(counts)));
    for (size_t i = 0; i < rank_counts.size(); ++i)
      max_load[i] += max_rank_load(counts, rank_counts[i]) / uniform_draws;
  });
  Json floor = mean_of(draws);
  floor["ranks"] = Json::array();
  for (size_t i = 0; i < rank_counts.size(); ++i)
    floor["ranks"].push_back({{"ranks", rank_counts[i]}, {"max_load", json_number(max_load[i])}});
  return floor;
}

Json coupling_numbers(const CouplingScalars& s) {
  return {{"kappa", json_number(s.kappa)},
          {"independent", json_number(s.independent)},
          {"excess", json_number(s.excess)},
          {"kappa_top_k", json_number(s.kappa_top_k)},
          {"peak", json_number(s.peak)},
          {"lift", json_number(s.lift)},
          {"information", json_number(s.information)}};
}
}  // namespace

std::vector<int32_t> floor_order(int64_t tokens) {
  return shuffled_order(tokens, hash_key(0, "tokens of a floor"));
}

Json load_json(const Trace& trace) {
  const int64_t layers = trace.layer_count();
  Json rows = Json::array();
  Json counts = Json::array(), concentration = Json::array();
  for (int64_t l = 0; l < layers; ++l) {
    const std::vector<int64_t> n = expert_counts(trace.layer(l));
    const Load load = measure_load(n);
    counts.push_back(n);
    concentration.push_back(json_list(load.concentration));
    rows.push_back(load_numbers(load));
  }
  Json out = {{"counts", counts}};
  out.update(columns_of(rows));
  out["concentration"] = concentration;
  out["ranks"] = Json::array();
  for (const int64_t ranks : rank_numbers(trace.num_experts))
    out["ranks"].push_back({{"ranks", ranks}, {"max_load", json_numbers(layers, [&](int64_t l) {
                                                 return max_rank_load(expert_counts(trace.layer(l)), ranks);
                                               })}});
  out["uniform"] = uniform_load(trace);
  return out;
}

Json coupling_json(const Trace& trace) {
  const std::vector<int32_t> order = floor_order(trace.token_count());
  const int64_t experts = trace.num_experts;
  Json pairs = Json::array();
  for (int64_t l = 0; l + 1 < trace.layer_count(); ++l) {
    const Selections lower = trace.layer(l), upper = trace.layer(l + 1);
    const Coupling c = couple(lower, upper);
    Json pair = {{"lower", trace.layers[static_cast<size_t>(l)]}, {"upper", trace.layers[static_cast<size_t>(l + 1)]}};
    pair.update(coupling_numbers(c.scalars));
    Json shuffled = coupling_numbers(couple(lower, upper.in_order(order)).scalars);
    shuffled.erase("independent");
    pair["shuffled"] = shuffled;
    pair["matched"] = c.matched;
    pair["conditional"] = json_list(experts, [&](int64_t e) {
      return json_numbers(experts, [&](int64_t v) -> std::optional<double> {
        if (c.lower_counts[static_cast<size_t>(e)] == 0) return {};
        return c.conditional(e, v);
      });
    });
    pairs.push_back(std::move(pair));
  }
  double uniform = 0;
  for_each_uniform_draw(trace.token_count(), 2, experts, trace.top_k,
                        [&](const Trace& u) { uniform += kappa(u.layer(0), u.layer(1)) / uniform_draws; });
  const double chance = static_cast<double>(trace.top_k) / static_cast<double>(experts);
  return {{"pairs", std::move(pairs)},
          {"uniform", {{"kappa", json_number(uniform)}}},
          {"chance", {{"conditional", json_number(chance)}}}};
}

Json coactivation_json(const Trace& trace) {
  if (trace.top_k == 1) return nullptr;
  const int64_t experts = trace.num_experts, layers = trace.layer_count();
  Json conditional = Json::array(), peak = Json::array();
  for (int64_t l = 0; l < layers; ++l) {
    const CountMatrix pairs = pair_counts(trace.layer(l));
    peak.push_back(json_number(coactivation_peak(pairs)));
    conditional.push_back(json_list(experts, [&](int64_t e) {
      return json_numbers(experts, [&](int64_t v) -> std::optional<double> {
        if (e == v || pairs.at(e, e) == 0) return {};
        return static_cast<double>(pairs.at(e, v)) / static_cast<double>(pairs.at(e, e));
      });
    }));
  }
  double uniform = 0;
  for_each_uniform_draw(trace.token_count(), 1, experts, trace.top_k,
                        [&](const Trace& u) { uniform += coactivation_peak(pair_counts(u.layer(0))) / uniform_draws; });
  const double chance = static_cast<double>(trace.top_k - 1) / static_cast<double>(experts - 1);
  return {{"conditional", std::move(conditional)},
          {"peak", std::move(peak)},
          {"uniform", {{"peak", json_number(uniform)}}},
          {"chance", json_number(chance)}};
}

Json repetition_json(const Trace& trace) {
  const std::vector<int32_t> order = floor_order(trace.token_count());
  Json rows = Json::array();
  for (int64_t l = 0; l < trace.layer_count(); ++l) {
    const Repetition real = repetition(trace.layer(l), trace.sequence_length);
    const Repetition shuffled = repetition(trace.layer(l).in_order(order), trace.sequence_length);
    rows.push_back({{"top_1", json_number(real.top_1)},
                    {"any", json_number(real.any)},
                    {"top_1_shuffled", json_number(shuffled.top_1)},
                    {"any_shuffled", json_number(shuffled.any)}});
  }
  Json out = columns_of(rows);
  const Repetition chance = chance_repetition(trace.num_experts, trace.top_k);
  out["chance"] = {{"top_1", json_number(chance.top_1)}, {"any", json_number(chance.any)}};
  return out;
}

Json placement_json(const Trace& trace, int64_t row_bytes) {
  Json out = Json::array();
  if (trace.token_count() < 2 * trace.sequence_length) return out;  // one half to place by, one to measure on
  const int64_t layers = trace.layer_count();
  for (const int64_t ranks : rank_numbers(trace.num_experts)) {
    const auto measured = [&](const Placement& placement) -> Json {
      const Locality found = locality(trace, placement, ranks, Sequences::odd);
      return {{"local", json_number(found.local)},
              {"path", layers > 1 ? json_number(found.path) : Json(nullptr)},
              {"bytes_per_token", json_number(found.foreign_ranks_a_token * 2 * static_cast<double>(row_bytes))}};
    };
    const SweptPlacement swept = swept_placement(trace, ranks, Sequences::even);
    out.push_back({{"ranks", ranks},
                   {"chance", json_number(1 / static_cast<double>(ranks))},
                   {"round_robin", measured(round_robin_placement(layers, trace.num_experts, ranks))},
                   {"placed", measured(coupled_placement(trace, ranks, Sequences::even))},
                   {"swept", measured(swept.placement)},
                   {"sweeps", swept.sweeps}});
  }
  return out;
}

}  // namespace strand
