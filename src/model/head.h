#pragma once
// Final projection and cross-entropy, fused over chunks of rows. The logits [T, V] never exist as a whole, and the
// gradient of a chunk is taken while its logits are there. So the head costs its three products and one pass over the
// logits.
#include "model/context.h"
#include "model/parameters.h"

namespace strand {

/// How many of `rows` rows are taken at a time.
int64_t head_chunk_rows(int64_t rows, int64_t vocab_size, const HeadChunk& chunk);

/// Adds CE to the terms. With dhidden [T, D] acc, also writes the gradient of hidden [T, D] act and adds to dweight [V,
/// D]. `logits_out` [T, V] acc, when given, receives the logits (verification, evaluation).
void head_loss(Context& c, const Tensor& weight, const Tensor& hidden, const Tensor& targets, const LossContext& loss,
               const Tensor& dhidden, const Tensor& dweight, const Tensor& logits_out);

}  // namespace strand
