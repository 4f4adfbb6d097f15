#include "model/head.h"

#include <algorithm>

#include "model/forward_observer.h"

namespace strand {

int64_t head_chunk_rows(int64_t rows, int64_t vocab_size, const HeadChunk& chunk) {
  return std::min(std::max(chunk.logits / vocab_size, chunk.least_rows), rows);
}

void head_loss(Context& c, const Tensor& weight, const Tensor& hidden, const Tensor& targets, const LossContext& loss,
               const Tensor& dhidden, const Tensor& dweight, const Tensor& logits_out) {
  const FamilyScope family(c.ops, OpFamily::head_loss);
  const int64_t rows = hidden.dim(0), vocab = weight.dim(0);
  const int64_t chunk = head_chunk_rows(rows, vocab, c.head_chunk);
  const bool train = static_cast<bool>(dhidden);
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const Arena::Scope scope(c.scratch);
    const int64_t end = std::min(begin + chunk, rows);
    const Tensor x = hidden.rows(begin, end);
    const Tensor logits = c.scratch.allocate("logits", c.types.acc, {end - begin, vocab});
    Tensor dlogits;
    if (train) dlogits = c.types.one_type() ? logits : c.scratch.allocate("dlogits", c.types.act, {end - begin, vocab});
    c.ops(Linear{.x = x, .weight = weight, .y = logits});
    if (loss.observer != nullptr) loss.observer->predicted(begin, logits);
    if (logits_out) c.ops(Copy{.from = logits, .to = logits_out.rows(begin, end)});
    c.ops(CrossEntropy{.logits = logits,
                       .targets = targets.rows(begin, end),
                       .numbers = loss.numbers,
                       .ce_weight = loss.objective.ce_weight,
                       .ce = loss.value(Term::ce),
                       .dlogits = dlogits});
    if (!train) continue;
    c.ops(LinearBackwardInput{.dy = dlogits, .weight = weight, .dx = dhidden.rows(begin, end)});
    c.ops(LinearBackwardWeight{.dy = dlogits, .x = x, .dweight = dweight});
  }
}

}  // namespace strand
