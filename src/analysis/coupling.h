#pragma once
// How two layers of experts go together (docs/analysis.md, "Coupling of layers"; Eq. 42 of arXiv 2602.14159).
#include "analysis/count_matrix.h"

namespace strand {

struct CouplingScalars {
  double kappa = 0;
  double independent = 0;  ///< kappa of independent layers with these loads
  double excess = 0;       ///< (kappa − independent) / (1 − independent); 0 where independent is 1
  double kappa_top_k = 0;
  double peak = 0;
  double lift = 0;
  double information = 0;  ///< 0 to 1; 0 where a layer always has the same top-1
};

struct Coupling {
  CouplingScalars scalars;
  CountMatrix joint;                  ///< J [E, E']
  std::vector<int64_t> lower_counts;  ///< n [E]
  std::vector<int64_t> matched;       ///< [E]: the column of each row in the assignment of kappa_top_k

  /// Q[e, ν]. Row `e` must not be asked for when n_e = 0.
  double conditional(int64_t e, int64_t v) const;
};

/// The coupling of two layers, from their routings of the same tokens, of which there is at least one.
Coupling couple(const Selections& lower, const Selections& upper);

/// The mutual information of rows and columns over the smaller of their entropies: 0 to 1, and 0 where one of them has
/// a single value.
double normalized_information(const CountMatrix& joint);

/// Computes κ alone.
double kappa(const Selections& lower, const Selections& upper);

}  // namespace strand
