#pragma once
// The assignment problem, solved exactly: the Hungarian method with potentials (Kuhn 1955; Munkres 1957), O(n²m) for n
// rows and m ≥ n columns.
#include <cstdint>
#include <vector>

#include "analysis/count_matrix.h"

namespace strand {

struct Assignment {
  std::vector<int64_t> column_of_row;  ///< [rows]; −1 for a row that none is left for, when rows are more than columns
  double total = 0;                    ///< sum of the weights of the assigned pairs
};

/// Gives every row a column of its own (or every column a row, when rows are more), so that the sum of the weights is
/// the largest. `weights` [rows, columns], finite.
Assignment best_assignment(const std::vector<double>& weights, int64_t rows, int64_t columns);
Assignment best_assignment(const CountMatrix& weights);

}  // namespace strand
