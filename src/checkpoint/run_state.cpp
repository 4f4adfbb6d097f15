#include "checkpoint/run_state.h"

#include <cmath>
#include <set>

#include "core/error.h"
#include "core/strict_json.h"
#include "core/version.h"

namespace strand {

using nlohmann::json;

namespace {
constexpr uint64_t state_version = 2;
constexpr uint64_t oldest_version = 1;  // version 1 has no "data"

int64_t position(const json& object, const char* key, const std::string& where) {
  const uint64_t value = json_unsigned(object, key, where);
  require(value <= static_cast<uint64_t>(INT64_MAX), "{}: \"{}\" is too large", where, key);
  return static_cast<int64_t>(value);
}

json data_to_json(const DataState& data) {
  json sources = json::array();
  for (const DataState::Source& s : data.sources)
    sources.push_back({{"weight", s.weight}, {"fingerprint", s.fingerprint}});
  return {{"sequence_length", data.sequence_length}, {"sources", sources}, {"validation", data.validation}};
}

/// Throws an exception of nlohmann's library when a value is missing or has another type.
DataState data_from_json(const json& object, const std::string& where) {
  DataState data;
  data.sequence_length = position(object, "sequence_length", where);
  for (const json& s : object.at("sources"))
    data.sources.push_back({s.at("weight").get<double>(), s.at("fingerprint").get<std::string>()});
  // Older files do not have it.
  if (object.contains("validation")) data.validation = object.at("validation").get<std::vector<std::string>>();
  return data;
}
}  // namespace

std::string run_state_to_json(const RunState& state) {
  for (const auto& [name, values] : state.series) {
    for (const double value : values) require(std::isfinite(value), "the statistic \"{}\" is not finite", name);
  }
  std::map<std::string, std::string> versions = state.versions;
  versions["strand"] = program_version();
  versions.erase("commit");  // a state that was read may name the commit of another program
  if (!program_commit().empty()) versions["commit"] = program_commit();
  const json document = {{"version", state_version},
                         {"step", state.step},
                         {"next_sample", state.next_sample},
                         {"schedule_step", state.schedule_step},
                         {"tokens", state.tokens},
                         {"seed", state.seed},
                         {"data", data_to_json(state.data)},
                         {"series", state.series},
                         {"versions", versions}};
  return document.dump(2) + "\n";  // doubles are written in the shortest form that reads back to the same bits
}

RunState run_state_from_json(const std::string& text, const std::string& where) {
  const json document = parse_strict_json(text, where);
  const uint64_t version = json_unsigned(document, "version", where);
  require(version >= oldest_version && version <= state_version, "{}: version {}, and this program reads {} to {}",
          where, version, oldest_version, state_version);
  static const std::set<std::string> known{"version", "step",   "next_sample", "schedule_step", "tokens",
                                           "seed",    "series", "versions",    "data"};
  for (const auto& [key, value] : document.items()) require(known.contains(key), "{}: unknown key \"{}\"", where, key);

  RunState state;
  state.step = position(document, "step", where);
  state.next_sample = position(document, "next_sample", where);
  state.schedule_step = position(document, "schedule_step", where);
  state.tokens = position(document, "tokens", where);
  state.seed = json_unsigned(document, "seed", where);
  try {
    if (version >= 2) state.data = data_from_json(json_object(document, "data", where), where);
    state.series = json_object(document, "series", where).get<decltype(state.series)>();
    state.versions = json_object(document, "versions", where).get<decltype(state.versions)>();
  } catch (const json::exception& e) {
    fail("{}: {}", where, e.what());
  }
  return state;
}

}  // namespace strand
