#pragma once
// Matrix products. Weights are [out, in] as everywhere in the field: y = x Wᵀ.
#include "core/tensor.h"

namespace strand {

/// What an operation does with an output that already holds something.
enum class Write : uint8_t { overwrite, accumulate };

/// y = x Wᵀ
struct Linear {
  Tensor x;       ///< [T, I] act
  Tensor weight;  ///< [O, I] act
  Tensor y;       ///< [T, O] act or acc
  void check() const;
};

/// dx (+)= dy W
struct LinearBackwardInput {
  Tensor dy;      ///< [T, O] act
  Tensor weight;  ///< [O, I] act
  Tensor dx;      ///< [T, I] act or acc
  Write write = Write::overwrite;
  void check() const;
};

/// dW += dyᵀ x
struct LinearBackwardWeight {
  Tensor dy;       ///< [T, O] act
  Tensor x;        ///< [T, I] act
  Tensor dweight;  ///< [O, I] acc, accumulated
  void check() const;
};

// The same three over the row blocks of experts. `offsets` [E + 1] i32 on the device: the rows of expert e are
// [offsets[e], offsets[e+1]), starts and ends multiples of Device::row_alignment(). Padding rows inside a block are
// zero on input and come out zero. Rows from offsets[E] on are neither read nor written. A block may be empty.

/// y[r] = W_e x[r] for every row r of expert e
struct GroupedLinear {
  Tensor x;           ///< [R, I] act
  Tensor weight;      ///< [E, O, I] act
  Tensor offsets;     ///< [E + 1] i32
  Tensor y;           ///< [R, O] act
  int64_t slots = 0;  ///< T·K: rows that are not padding, for counting
  void check() const;
};

/// dx[r] = W_eᵀ dy[r]
struct GroupedLinearBackwardInput {
  Tensor dy;          ///< [R, O] act
  Tensor weight;      ///< [E, O, I] act
  Tensor offsets;     ///< [E + 1] i32
  Tensor dx;          ///< [R, I] act
  int64_t slots = 0;  ///< T·K: rows that are not padding, for counting
  void check() const;
};

/// dW_e += Σ_r dy[r] x[r]ᵀ; an expert without rows keeps its dW
struct GroupedLinearBackwardWeight {
  Tensor dy;          ///< [R, O] act
  Tensor x;           ///< [R, I] act
  Tensor offsets;     ///< [E + 1] i32
  Tensor dweight;     ///< [E, O, I] acc, accumulated
  int64_t slots = 0;  ///< T·K: rows that are not padding, for counting
  void check() const;
};

}  // namespace strand
