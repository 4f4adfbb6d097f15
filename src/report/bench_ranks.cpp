#include "report/bench_ranks.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/number_text.h"
#include "report/table.h"

namespace strand {

double hidden_seconds(const TrafficCounts::Kind& counts) {
  return std::max(0.0, counts.busy_seconds - counts.exposed_seconds);
}

namespace {
using json = nlohmann::ordered_json;

std::string spread_table(const RanksResult& r) {
  TextTable table({"ranks, a step", "least", "mean", "most", "most / mean"});
  const auto add = [&](const char* name, double RankTime::* field, double unit, const char* format) {
    std::vector<double> values;
    double mean = 0;
    for (const RankTime& rank : r.each) {
      values.push_back(unit * rank.*field);
      mean += values.back() / static_cast<double>(r.each.size());
    }
    const auto text = [&](double value) { return fmt::format(fmt::runtime(format), value); };
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    table.add({name, text(*least), text(mean), text(*most), mean > 0 ? fmt::format("{:.3f}", *most / mean) : ""});
  };
  add("until its own end, ms", &RankTime::step_seconds, 1e3, "{:.2f}");
  add("waiting for communication, ms", &RankTime::exposed_seconds, 1e3, "{:.2f}");
  add("communication beside work, ms", &RankTime::hidden_seconds, 1e3, "{:.2f}");
  add("rows computed by its experts", &RankTime::expert_rows, 1, "{:.0f}");
  return table.text();
}

std::string traffic_table(const RanksResult& r) {
  TextTable table(
      {"traffic of the mean rank, a step", "calls", "messages", "payload", "sent", "exposed, ms", "hidden, ms"});
  for (const KindTime& k : r.traffic)
    table.add({k.kind, fmt::format("{:.0f}", k.calls), fmt::format("{:.0f}", k.messages), bytes_text(k.payload_bytes),
               bytes_text(k.sent_bytes), fixed_text(1e3 * k.exposed_seconds, 2),
               fixed_text(1e3 * k.hidden_seconds, 2)});
  return table.text();
}
}  // namespace

std::string ranks_text(const RanksResult& r) {
  return spread_table(r) + "\n" + traffic_table(r) + "\n";
}

json to_json(const RanksResult& r) {
  json each = json::array(), traffic = json::array();
  for (const RankTime& rank : r.each)
    each.push_back({{"step_seconds", rank.step_seconds},
                    {"exposed_seconds", rank.exposed_seconds},
                    {"hidden_seconds", rank.hidden_seconds},
                    {"expert_rows", rank.expert_rows}});
  for (const KindTime& k : r.traffic)
    traffic.push_back({{"kind", k.kind},
                       {"calls", k.calls},
                       {"messages", k.messages},
                       {"payload_bytes", k.payload_bytes},
                       {"sent_bytes", k.sent_bytes},
                       {"exposed_seconds", k.exposed_seconds},
                       {"hidden_seconds", k.hidden_seconds}});
  return {{"expert_parallel", r.expert_parallel}, {"each", each}, {"traffic", traffic}};
}

RanksResult ranks_from(const json& j) {
  RanksResult r{.expert_parallel = j.at("expert_parallel").get<int>()};
  for (const json& rank : j.at("each"))
    r.each.push_back({rank.at("step_seconds").get<double>(), rank.at("exposed_seconds").get<double>(),
                      rank.at("hidden_seconds").get<double>(), rank.at("expert_rows").get<double>()});
  for (const json& k : j.at("traffic"))
    r.traffic.push_back({k.at("kind").get<std::string>(), k.at("calls").get<double>(), k.at("messages").get<double>(),
                         k.at("payload_bytes").get<double>(), k.at("sent_bytes").get<double>(),
                         k.at("exposed_seconds").get<double>(), k.at("hidden_seconds").get<double>()});
  return r;
}

}  // namespace strand
