#pragma once
// What experts have to do with token ids (docs/analysis.md, "Vocabulary").
#include <cstdint>
#include <vector>

#include "analysis/trace.h"

namespace strand {

/// An id counts from so many occurrences on; the main expert of a rarer one says little.
inline constexpr int64_t least_occurrences = 10;

/// The occurrences of ids, sorted out once for all layers.
class IdOccurrences {
 public:
  explicit IdOccurrences(const std::vector<int32_t>& ids);

  struct Entry {
    int32_t id = 0;
    std::vector<int64_t> places;  ///< tokens that have it, ascending
  };
  /// Ids with at least least_occurrences, ascending.
  const std::vector<Entry>& frequent() const { return frequent_; }

 private:
  std::vector<Entry> frequent_;
};

struct VocabularySpecialization {
  double mean = 0;      ///< over ids: share of the id's occurrences whose top-1 is its main expert
  double weighted = 0;  ///< the same, weighted by occurrences
};
/// 0 when no id is frequent.
VocabularySpecialization vocabulary_specialization(const Selections& selections, const IdOccurrences& ids);

/// Mutual information of id and top-1 over the entropy of top-1, among the frequent ids; 0 where top-1 is always the
/// same.
double context_independence(const Selections& selections, const IdOccurrences& ids);

/// An id in the list of its main expert.
struct ListedId {
  int32_t id = 0;
  int64_t count = 0;
  double share = 0;       ///< of its occurrences that go to this expert first
  int64_t runner_up = 0;  ///< the next most frequent expert
  double runner_up_share = 0;
};
/// [E]: the frequent ids whose main expert it is, the largest share first (ties: more occurrences, then the lower id),
/// `length` at most.
std::vector<std::vector<ListedId>> token_lists(const Selections& selections, const IdOccurrences& ids, int64_t length);

}  // namespace strand
