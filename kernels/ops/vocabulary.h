#pragma once
// The embedding table, and the operations that only move numbers.
#include "core/tensor.h"

namespace strand {

/// x[t] = table[tokens[t]]
struct Embedding {
  Tensor tokens;  ///< [T] i32, in [0, V), checked by whoever made them
  Tensor table;   ///< [V, D] act
  Tensor x;       ///< [T, D] acc
  void check() const;
};

/// dtable[v] += Σ_{t: tokens[t] = v} dx[t], in the order of t
struct EmbeddingBackward {
  Tensor tokens;  ///< [T] i32
  Tensor dx;      ///< [T, D] acc
  Tensor dtable;  ///< [V, D] acc, accumulated
  void check() const;
};

struct Zero {
  Tensor x;  ///< any type and shape
  void check() const;
};

struct Copy {
  Tensor from, to;  ///< same type and number of elements
  void check() const;
};

/// to = from, converted: acc to act (rounded to nearest even) or act to acc.
struct Cast {
  Tensor from, to;  ///< same number of elements
  void check() const;
};

}  // namespace strand
