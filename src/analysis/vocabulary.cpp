#include "analysis/vocabulary.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "analysis/count_matrix.h"

namespace strand {

IdOccurrences::IdOccurrences(const std::vector<int32_t>& ids) {
  std::map<int32_t, std::vector<int64_t>> places;
  for (size_t t = 0; t < ids.size(); ++t) places[ids[t]].push_back(static_cast<int64_t>(t));
  for (auto& [id, where] : places)
    if (static_cast<int64_t>(where.size()) >= least_occurrences) frequent_.push_back({id, std::move(where)});
}

namespace {
/// [E]: how often an id goes to each expert first.
std::vector<int64_t> experts_of(const Selections& selections, const IdOccurrences::Entry& entry) {
  std::vector<int64_t> counts(static_cast<size_t>(selections.experts()));
  for (const int64_t t : entry.places) ++counts[static_cast<size_t>(selections.top_1(t))];
  return counts;
}
}  // namespace

VocabularySpecialization vocabulary_specialization(const Selections& selections, const IdOccurrences& ids) {
  VocabularySpecialization sum;
  int64_t occurrences = 0;
  for (const IdOccurrences::Entry& entry : ids.frequent()) {
    const std::vector<int64_t> counts = experts_of(selections, entry);
    const auto most = static_cast<double>(*std::max_element(counts.begin(), counts.end()));
    sum.mean += most / static_cast<double>(entry.places.size());
    sum.weighted += most;
    occurrences += static_cast<int64_t>(entry.places.size());
  }
  if (occurrences == 0) return {};
  return {sum.mean / static_cast<double>(ids.frequent().size()), sum.weighted / static_cast<double>(occurrences)};
}

double context_independence(const Selections& selections, const IdOccurrences& ids) {
  CountMatrix joint(static_cast<int64_t>(ids.frequent().size()), selections.experts());
  for (size_t i = 0; i < ids.frequent().size(); ++i) {
    const std::vector<int64_t> counts = experts_of(selections, ids.frequent()[i]);
    for (size_t e = 0; e < counts.size(); ++e) joint.at(static_cast<int64_t>(i), static_cast<int64_t>(e)) = counts[e];
  }
  const double of_top_1 = entropy(joint.column_sums());
  return of_top_1 > 0 ? mutual_information(joint) / of_top_1 : 0;
}

std::vector<std::vector<ListedId>> token_lists(const Selections& selections, const IdOccurrences& ids, int64_t length) {
  std::vector<std::vector<ListedId>> lists(static_cast<size_t>(selections.experts()));
  for (const IdOccurrences::Entry& entry : ids.frequent()) {
    std::vector<int64_t> counts = experts_of(selections, entry);
    const auto total = static_cast<double>(entry.places.size());
    const auto main = std::max_element(counts.begin(), counts.end());
    auto& list = lists[static_cast<size_t>(main - counts.begin())];
    ListedId listed{.id = entry.id,
                    .count = static_cast<int64_t>(entry.places.size()),
                    .share = static_cast<double>(*main) / total};
    *main = -1;  // what is the largest now comes second
    const auto second = std::max_element(counts.begin(), counts.end());
    listed.runner_up = second - counts.begin();
    listed.runner_up_share = std::max(0.0, static_cast<double>(*second) / total);
    list.push_back(listed);
  }
  for (auto& list : lists) {
    std::sort(list.begin(), list.end(), [](const ListedId& a, const ListedId& b) {
      return std::tie(b.share, b.count, a.id) < std::tie(a.share, a.count, b.id);
    });
    if (static_cast<int64_t>(list.size()) > length) list.resize(static_cast<size_t>(length));
  }
  return lists;
}

}  // namespace strand
