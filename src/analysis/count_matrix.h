#pragma once
// A matrix of counts, and how a routing is turned into counts.
#include <cstdint>
#include <vector>

#include "analysis/trace.h"

namespace strand {

struct CountMatrix {
  int64_t rows = 0, columns = 0;
  std::vector<int64_t> values;  ///< [rows, columns]

  CountMatrix(int64_t rows_, int64_t columns_)
      : rows(rows_), columns(columns_), values(static_cast<size_t>(rows_ * columns_)) {}
  int64_t& at(int64_t row, int64_t column) { return values[static_cast<size_t>(row * columns + column)]; }
  int64_t at(int64_t row, int64_t column) const { return values[static_cast<size_t>(row * columns + column)]; }
  int64_t total() const;
  std::vector<int64_t> row_sums() const;
  std::vector<int64_t> column_sums() const;
};

/// n [E]: how many tokens use each expert.
std::vector<int64_t> expert_counts(const Selections& selections);
/// J [E, E']: how many tokens have expert e of `lower` and ν of `upper`, in all K·K' pairs. Both have the same tokens.
CountMatrix joint_counts(const Selections& lower, const Selections& upper);
/// N [E, E']: how many tokens have e as the first expert of `lower` and ν as the first one of `upper`.
CountMatrix top_1_joint_counts(const Selections& lower, const Selections& upper);
/// [E, E]: how many tokens use both e and ν. The diagonal has n.
CountMatrix pair_counts(const Selections& selections);

/// Entropy in nats of the distribution that is proportional to `counts`; 0 when all are 0.
double entropy(const std::vector<int64_t>& counts);
/// Mutual information in nats of rows and columns of a table of counts; 0 when it is empty.
double mutual_information(const CountMatrix& joint);

/// A permutation of 0 … tokens − 1, a function of `key` alone.
std::vector<int32_t> shuffled_order(int64_t tokens, uint64_t key);

}  // namespace strand
