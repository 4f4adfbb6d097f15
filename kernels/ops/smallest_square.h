#pragma once
// A limit of the specialization term that every backend keeps (ops/experts.h).

namespace strand {

/// A row z whose squared norm is smaller has no direction: its cosines with other rows are 0, without gradient.
constexpr double smallest_square = 1e-24;

}  // namespace strand
