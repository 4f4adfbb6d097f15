#include "run_report/groups.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "config/schema.h"
#include "core/error.h"
#include "run_report/chart.h"

namespace strand::run_report {

namespace {
/// Equal for runs that differ in nothing but the seed, the name and the place.
std::string kind_of(const RunFiles& run) {
  Config config = run.config;
  const RunConfig none;
  config.run.name = none.name;
  config.run.dir = none.dir;
  config.run.seed = none.seed;
  return to_yaml(config);
}

/// The beginning that all names share, without what separates it from a seed.
std::string common_name(const std::vector<const RunFiles*>& runs) {
  std::string name = runs.front()->name();
  for (const RunFiles* run : runs) {
    size_t same = 0;
    while (same < name.size() && same < run->name().size() && name[same] == run->name()[same]) ++same;
    name.resize(same);
  }
  if (runs.size() == 1) return name;
  for (const std::string ending : {"seed", "s"}) {
    const std::string trimmed = name.substr(0, name.find_last_not_of("-_. 0123456789") + 1);
    if (trimmed.ends_with("_" + ending) || trimmed.ends_with("-" + ending)) {
      name = trimmed.substr(0, trimmed.size() - ending.size() - 1);
      break;
    }
  }
  const size_t end = name.find_last_not_of("-_. ");
  name.resize(end == std::string::npos ? 0 : end + 1);
  return name.empty() ? runs.front()->name() : name;
}
}  // namespace

Band Group::band(const std::string& column) const {
  std::vector<Series> all;
  for (const RunFiles* run : runs) all.push_back(run->column(column));
  return mean_of(all);
}

std::vector<Group> groups_of(const std::vector<RunFiles>& runs) {
  std::vector<Group> groups;
  std::map<std::string, size_t> place;
  for (const RunFiles& run : runs) {
    const auto [found, added] = place.try_emplace(kind_of(run), groups.size());
    if (added) groups.push_back({.color = static_cast<int>(groups.size())});
    groups[found->second].runs.push_back(&run);
  }
  require(groups.size() <= static_cast<size_t>(colors),
          "{} kinds of runs: one report tells {} apart; runs that differ in run.seed alone are of one kind",
          groups.size(), colors);
  for (Group& group : groups) group.name = common_name(group.runs);
  for (size_t i = 0; i < groups.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (groups[i].name == groups[j].name) groups[i].name += " (" + groups[i].runs.front()->directory + ")";
  return groups;
}

double endpoint(const RunFiles& run) {
  const Series& validation = run.column("val_loss");
  if (validation.empty()) return late_mean(run.column("ce"), 0.05);
  const size_t last = std::min<size_t>(3, validation.size());
  double sum = 0;
  for (size_t i = validation.size() - last; i < validation.size(); ++i) sum += validation.values[i];
  return sum / static_cast<double>(last);
}

std::vector<PairedDifference> paired_differences(const std::vector<Group>& groups) {
  std::vector<PairedDifference> all;
  for (size_t i = 1; i < groups.size(); ++i) {
    std::map<uint64_t, double> base, method;
    for (const RunFiles* run : groups.front().runs) base[run->config.run.seed] = endpoint(*run);
    for (const RunFiles* run : groups[i].runs) method[run->config.run.seed] = endpoint(*run);
    PairedDifference pair{groups[i].name, groups.front().name, {}};
    for (const auto& [seed, loss] : method) {
      const auto found = base.find(seed);
      if (found != base.end() && std::isfinite(loss - found->second)) pair.differences.push_back(loss - found->second);
    }
    all.push_back(std::move(pair));
  }
  return all;
}

}  // namespace strand::run_report
