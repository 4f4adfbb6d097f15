#pragma once
// What experts have to do with the domain of a text (docs/analysis.md, "Domains").
#include "analysis/count_matrix.h"

namespace strand {

/// The domain of each sequence of a trace, by number.
std::vector<int32_t> domain_of_sequence(const std::vector<TraceDomain>& domains);

/// [domains, E]: selections of each expert by tokens of each domain. `domain_of` has the domain of each sequence.
CountMatrix domain_counts(const Selections& selections, int64_t sequence_length, const std::vector<int32_t>& domain_of,
                          int64_t domains);

/// Mutual information of domain and expert, in nats per selection: of the text, and the same after the domains of whole
/// sequences were shuffled (the mean of several shuffles).
struct DomainInformation {
  double real = 0, shuffled = 0;
};
DomainInformation domain_information(const Selections& selections, int64_t sequence_length,
                                     const std::vector<TraceDomain>& domains);

}  // namespace strand
