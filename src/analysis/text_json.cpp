// The parts of analysis.json that see token ids, domains, guesses and clusters.
#include <algorithm>
#include <set>

#include "analysis/clusters.h"
#include "analysis/count_json.h"
#include "analysis/coupling.h"
#include "analysis/domains.h"
#include "analysis/flows.h"
#include "analysis/lookahead.h"
#include "analysis/uniform_routing.h"
#include "analysis/vocabulary.h"

namespace strand {

namespace {
constexpr int64_t list_length = 8;

/// Appends each value to the list of its key.
void append(Json& columns, const Json& row) {
  for (const auto& [key, value] : row.items()) columns[key].push_back(value);
}

/// The first, the middle and the last layer of a trace.
std::set<int64_t> three_layers(const Trace& trace) {
  return {0, trace.layer_count() / 2, trace.layer_count() - 1};
}

/// A number about the frequent ids: null when there is none.
Json of_ids(const IdOccurrences& ids, double value) {
  return ids.frequent().empty() ? Json(nullptr) : json_number(value);
}

Json specialization_json(const Trace& trace, const std::vector<int32_t>& ids, const std::vector<int32_t>& order) {
  const IdOccurrences occurrences(ids);
  Json out = {{"ids", occurrences.frequent().size()}};
  for (int64_t l = 0; l < trace.layer_count(); ++l) {
    const auto real = vocabulary_specialization(trace.layer(l), occurrences);
    const auto floor = vocabulary_specialization(trace.layer(l).in_order(order), occurrences);
    append(out, {{"specialization", of_ids(occurrences, real.mean)},
                 {"weighted", of_ids(occurrences, real.weighted)},
                 {"specialization_shuffled", of_ids(occurrences, floor.mean)},
                 {"weighted_shuffled", of_ids(occurrences, floor.weighted)}});
  }
  return out;
}

Json lists_json(const Trace& trace, const IdOccurrences& ids, const std::function<std::string(int32_t)>& piece) {
  Json out = Json::array();
  for (const int64_t l : three_layers(trace)) {
    Json experts = Json::array();
    for (const std::vector<ListedId>& list : token_lists(trace.layer(l), ids, list_length)) {
      Json listed = Json::array();
      for (const ListedId& id : list)
        listed.push_back({{"id", id.id},
                          {"piece", piece ? Json(piece(id.id)) : Json(nullptr)},
                          {"count", id.count},
                          {"share", json_number(id.share)},
                          {"runner_up", id.runner_up},
                          {"runner_up_share", json_number(id.runner_up_share)}});
      experts.push_back(std::move(listed));
    }
    out.push_back({{"layer", trace.layers[static_cast<size_t>(l)]}, {"experts", std::move(experts)}});
  }
  return out;
}
}  // namespace

Json domains_json(const Trace& trace, const std::vector<double>& ce) {
  const auto domains = static_cast<int64_t>(trace.domains.size());
  const int64_t layers = trace.layer_count(), experts = trace.num_experts;
  const std::vector<int32_t> domain_of = domain_of_sequence(trace.domains);
  std::vector<CountMatrix> counts;
  Json real = Json::array(), shuffled = Json::array();
  for (int64_t l = 0; l < layers; ++l) {
    counts.push_back(domain_counts(trace.layer(l), trace.sequence_length, domain_of, domains));
    if (domains == 1) continue;
    const DomainInformation information = domain_information(trace.layer(l), trace.sequence_length, trace.domains);
    real.push_back(json_number(information.real));
    shuffled.push_back(json_number(information.shuffled));
  }
  Json share = json_list(domains, [&](int64_t d) {
    const auto tokens = static_cast<double>(trace.domains[static_cast<size_t>(d)].sequences * trace.sequence_length);
    return json_list(layers, [&](int64_t l) {
      return json_numbers(
          experts, [&](int64_t e) { return static_cast<double>(counts[static_cast<size_t>(l)].at(d, e)) / tokens; });
    });
  });
  Json by_domain = json_list(domains, [&](int64_t d) {
    return Json{{"name", trace.domains[static_cast<size_t>(d)].name}, {"ce", json_number(ce[static_cast<size_t>(d)])}};
  });
  return {{"share", std::move(share)},
          {"chance", json_number(static_cast<double>(trace.top_k) / static_cast<double>(experts))},
          {"information", domains > 1 ? std::move(real) : Json(nullptr)},
          {"information_shuffled", domains > 1 ? std::move(shuffled) : Json(nullptr)},
          {"by_domain", std::move(by_domain)}};
}

Json vocabulary_json(const Trace& trace, const std::function<std::string(int32_t)>& piece) {
  const std::vector<int32_t> order = floor_order(trace.token_count());
  const IdOccurrences inputs(trace.tokens);
  const auto independence = [&](const Selections& selections) {
    return of_ids(inputs, context_independence(selections, inputs));
  };
  const int64_t layers = trace.layer_count();
  return {{"input", specialization_json(trace, trace.tokens, order)},
          {"next", specialization_json(trace, trace.next, order)},
          {"predicted", specialization_json(trace, trace.predicted, order)},
          {"context_independence", json_list(layers, [&](int64_t l) { return independence(trace.layer(l)); })},
          {"context_independence_shuffled",
           json_list(layers, [&](int64_t l) { return independence(trace.layer(l).in_order(order)); })},
          {"token_lists", lists_json(trace, inputs, piece)}};
}

Json flows_json(const Trace& trace) {
  if (trace.layer_count() < 2) return nullptr;
  Json layers = Json::array(), domains = Json::array();
  for (const int64_t l : flow_layers(trace)) layers.push_back(trace.layers[static_cast<size_t>(l)]);
  for (const std::vector<Flow>& flows : token_flows(trace)) {
    Json domain = {{"counts", Json::array()}};
    for (const Flow& flow : flows) {
      domain["counts"].push_back(json_list(trace.num_experts, [&](int64_t e) {
        return json_list(trace.num_experts, [&](int64_t v) { return flow.counts.at(e, v); });
      }));
      append(domain,
             {{"information", json_number(flow.information)}, {"information_shuffled", json_number(flow.shuffled)}});
    }
    domains.push_back(std::move(domain));
  }
  return {{"layers", std::move(layers)}, {"domains", std::move(domains)}};
}

Json lookahead_json(const Trace& trace, const Collected& collected) {
  const std::vector<int32_t> order = floor_order(trace.token_count());
  Json out = {{"layers", Json::array()}};
  for (int64_t l = 0; l + 1 < trace.layer_count(); ++l) {
    const Selections guessed = collected.guesses(l, trace.num_experts, trace.top_k), real = trace.layer(l + 1);
    const Lookahead found = lookahead(guessed, real);
    const Agreement shuffled = agreement(guessed.in_order(order), real);
    append(out, {{"layers", trace.layers[static_cast<size_t>(l + 1)]},
                 {"top_k", json_number(found.tokens.top_k)},
                 {"top_k_shuffled", json_number(shuffled.top_k)},
                 {"top_1", json_number(found.tokens.top_1)},
                 {"top_1_shuffled", json_number(shuffled.top_1)},
                 {"count_cosine", json_number(found.count_cosine)},
                 {"count_rank_correlation", json_number(found.rank_correlation)},
                 {"hottest", json_number(found.hottest)}});
  }
  const auto experts = static_cast<double>(trace.num_experts);
  out["chance"] = {{"top_k", json_number(static_cast<double>(trace.top_k) / experts)},
                   {"hottest", json_number(static_cast<double>(hottest_count(trace.num_experts)) / experts)}};
  return out;
}

Json clusters_json(const Trace& trace, const Collected& collected) {
  const auto tokens = static_cast<int64_t>(collected.clustered.size());
  if (tokens == 0) return nullptr;
  const int64_t experts = trace.num_experts;
  const std::vector<int32_t> order = floor_order(tokens);
  std::vector<LayerClusters> clusters;
  std::vector<std::vector<uint16_t>> router;  // top-1 of the clustered tokens
  for (int64_t l = 0; l < trace.layer_count(); ++l) {
    clusters.push_back(
        cluster_tokens(collected.layers[static_cast<size_t>(l)].inputs, experts, static_cast<uint64_t>(l)));
    router.emplace_back();
    for (const int64_t t : collected.clustered) router.back().push_back(static_cast<uint16_t>(trace.layer(l).top_1(t)));
  }
  const auto view = [&](const std::vector<uint16_t>& of) { return as_selections(of, experts); };
  const char* length = collected.input_length == InputLength::unit ? "unit" : "as it is";
  Json out = {{"tokens", tokens}, {"input_length", length}, {"pairs", Json::array()}};
  for (size_t l = 0; l < clusters.size(); ++l) {
    const Selections chosen = view(router[l]), balanced = view(clusters[l].balanced);
    append(out, {{"agreement", json_number(kappa(balanced, chosen))},
                 {"agreement_shuffled", json_number(kappa(balanced, chosen.in_order(order)))}});
    if (l + 1 == clusters.size()) break;
    const Selections lower = view(clusters[l].unbalanced), upper = view(clusters[l + 1].unbalanced);
    out["pairs"].push_back({{"lower", trace.layers[l]},
                            {"upper", trace.layers[l + 1]},
                            {"balanced", json_number(kappa(balanced, view(clusters[l + 1].balanced)))},
                            {"unbalanced", json_number(kappa(lower, upper))},
                            {"unbalanced_shuffled", json_number(kappa(lower, upper.in_order(order)))},
                            {"router", json_number(kappa(chosen, view(router[l + 1])))}});
  }
  double uniform = 0;
  for_each_uniform_draw(tokens, 2, experts, 1,
                        [&](const Trace& u) { uniform += kappa(u.layer(0), u.layer(1)) / uniform_draws; });
  out["uniform"] = json_number(uniform);
  return out;
}

}  // namespace strand
