#include "analysis/assignment.h"

#include <limits>

#include "core/error.h"

namespace strand {

namespace {
constexpr int64_t free_column = -1;

/// Rows are assigned one after the other. Each time the cheapest path of exchanges from the new row to a free column is
/// found as in Dijkstra's algorithm, on costs that the potentials keep at least 0.
class Hungarian {
 public:
  Hungarian(const std::vector<double>& weights, int64_t rows, int64_t columns)
      : weights_(weights),
        columns_(columns),
        row_potential_(static_cast<size_t>(rows)),
        column_potential_(static_cast<size_t>(columns)),
        row_of_(static_cast<size_t>(columns), free_column) {
    for (int64_t row = 0; row < rows; ++row) add(row);
  }

  const std::vector<int64_t>& row_of_column() const { return row_of_; }

 private:
  /// The cost of an assignment is minus its weight, so that the largest sum of weights is the smallest of costs.
  double reduced_cost(int64_t row, int64_t column) const {
    return -weights_[static_cast<size_t>(row * columns_ + column)] - row_potential_[static_cast<size_t>(row)] -
           column_potential_[static_cast<size_t>(column)];
  }

  void add(int64_t row) {
    const auto m = static_cast<size_t>(columns_);
    std::vector<double> distance(m, std::numeric_limits<double>::infinity());
    std::vector<int64_t> before(m, free_column);  // the column before it on the path
    std::vector<bool> reached(m, false);
    int64_t from_row = row, from_column = free_column;
    double length = 0;
    while (true) {
      int64_t nearest = free_column;
      for (int64_t j = 0; j < columns_; ++j) {
        const auto c = static_cast<size_t>(j);
        if (reached[c]) continue;
        const double through = length + reduced_cost(from_row, j);
        if (through < distance[c]) {
          distance[c] = through;
          before[c] = from_column;
        }
        if (nearest == free_column || distance[c] < distance[static_cast<size_t>(nearest)]) nearest = j;
      }
      const auto c = static_cast<size_t>(nearest);
      length = distance[c];
      reached[c] = true;
      from_column = nearest;
      if (row_of_[c] == free_column) break;
      from_row = row_of_[c];
    }
    move_potentials(row, distance, reached, length);
    for (int64_t column = from_column; column != free_column;) {
      const int64_t previous = before[static_cast<size_t>(column)];
      row_of_[static_cast<size_t>(column)] = previous == free_column ? row : row_of_[static_cast<size_t>(previous)];
      column = previous;
    }
  }

  void move_potentials(int64_t row, const std::vector<double>& distance, const std::vector<bool>& reached,
                       double length) {
    row_potential_[static_cast<size_t>(row)] += length;
    for (size_t c = 0; c < reached.size(); ++c) {
      if (!reached[c] || row_of_[c] == free_column) continue;
      row_potential_[static_cast<size_t>(row_of_[c])] += length - distance[c];
      column_potential_[c] -= length - distance[c];
    }
  }

  const std::vector<double>& weights_;
  int64_t columns_;
  std::vector<double> row_potential_, column_potential_;
  std::vector<int64_t> row_of_;
};

std::vector<double> transposed(const std::vector<double>& weights, int64_t rows, int64_t columns) {
  std::vector<double> t(weights.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      t[static_cast<size_t>(j * rows + i)] = weights[static_cast<size_t>(i * columns + j)];
  return t;
}
}  // namespace

Assignment best_assignment(const std::vector<double>& weights, int64_t rows, int64_t columns) {
  require(static_cast<int64_t>(weights.size()) == rows * columns,
          "{} weights for an assignment of {} rows to {} columns", weights.size(), rows, columns);
  Assignment best{.column_of_row = std::vector<int64_t>(static_cast<size_t>(rows), free_column)};
  if (rows <= columns) {
    const Hungarian solved(weights, rows, columns);
    for (int64_t j = 0; j < columns; ++j)
      if (const int64_t row = solved.row_of_column()[static_cast<size_t>(j)]; row != free_column)
        best.column_of_row[static_cast<size_t>(row)] = j;
  } else {
    const std::vector<double> sideways = transposed(weights, rows, columns);
    best.column_of_row = Hungarian(sideways, columns, rows).row_of_column();
  }
  for (int64_t i = 0; i < rows; ++i)
    if (const int64_t j = best.column_of_row[static_cast<size_t>(i)]; j != free_column)
      best.total += weights[static_cast<size_t>(i * columns + j)];
  return best;
}

Assignment best_assignment(const CountMatrix& weights) {
  const std::vector<double> values(weights.values.begin(), weights.values.end());
  return best_assignment(values, weights.rows, weights.columns);
}

}  // namespace strand
