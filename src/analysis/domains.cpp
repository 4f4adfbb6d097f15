#include "analysis/domains.h"

#include "core/random.h"

namespace strand {

namespace {
constexpr int shuffles = 4;
}

std::vector<int32_t> domain_of_sequence(const std::vector<TraceDomain>& domains) {
  std::vector<int32_t> of;
  for (size_t i = 0; i < domains.size(); ++i)
    of.insert(of.end(), static_cast<size_t>(domains[i].sequences), static_cast<int32_t>(i));
  return of;
}

CountMatrix domain_counts(const Selections& selections, int64_t sequence_length, const std::vector<int32_t>& domain_of,
                          int64_t domains) {
  CountMatrix counts(domains, selections.experts());
  for (int64_t t = 0; t < selections.tokens(); ++t) {
    const int32_t domain = domain_of[static_cast<size_t>(t / sequence_length)];
    for (const uint16_t e : selections[t]) ++counts.at(domain, e);
  }
  return counts;
}

DomainInformation domain_information(const Selections& selections, int64_t sequence_length,
                                     const std::vector<TraceDomain>& domains) {
  const auto number = static_cast<int64_t>(domains.size());
  const std::vector<int32_t> of = domain_of_sequence(domains);
  DomainInformation information;
  information.real = mutual_information(domain_counts(selections, sequence_length, of, number));
  for (int i = 0; i < shuffles; ++i) {
    const uint64_t key = hash_key(static_cast<uint64_t>(i), "domains of sequences");
    std::vector<int32_t> mixed;
    for (const int32_t s : shuffled_order(static_cast<int64_t>(of.size()), key))
      mixed.push_back(of[static_cast<size_t>(s)]);
    information.shuffled += mutual_information(domain_counts(selections, sequence_length, mixed, number)) / shuffles;
  }
  return information;
}

}  // namespace strand
