// The embedding table.
#include "kernels/reference/reference_ops.h"
#include "kernels/reference/view.h"

namespace strand {

using namespace reference;

// x_t = table[token_t]
void ReferenceOps::run(const Embedding& op) {
  const auto tokens = ids(op.tokens);
  const auto table = matrix(op.table), x = matrix(op.x);
  for (int64_t t = 0; t < x.dim(0); ++t)
    for (int64_t d = 0; d < x.dim(1); ++d) x(t, d) = table(tokens(t), d);
}

// ∂table_v = Σ_{t: token_t = v} ∂x_t
void ReferenceOps::run(const EmbeddingBackward& op) {
  const auto tokens = ids(op.tokens);
  const auto dx = matrix(op.dx), dtable = matrix(op.dtable);
  for (int64_t t = 0; t < dx.dim(0); ++t)
    for (int64_t d = 0; d < dx.dim(1); ++d) dtable(tokens(t), d) += dx(t, d);
}

}  // namespace strand
