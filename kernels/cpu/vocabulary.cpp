// The embedding table: a gather, and a scatter-add whose order does not depend on the threads.
#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/token_blocks.h"

namespace strand {

void CpuOps::run(const Embedding& op) {
  const int64_t width = op.table.dim(1);
  const int32_t* tokens = op.tokens.as<int32_t>();
  float* x = op.x.as<float>();
  dispatch_act(op.table.dtype, [&](auto tag) {
    const auto* table = op.table.as<typename decltype(tag)::type>();
    for_blocks(op.tokens.dim(0), token_block, [&](int64_t begin, int64_t end, int64_t) {
      for (int64_t t = begin; t < end; ++t) convert(table + tokens[t] * width, x + t * width, width);
    });
  });
}

// Each task owns a slice of columns and goes through all tokens: several tokens may share a row, no two tasks an
// element.
void CpuOps::run(const EmbeddingBackward& op) {
  constexpr int64_t slice = block_sizes::embedding_columns;
  const int64_t count = op.tokens.dim(0), width = op.dtable.dim(1);
  const int32_t* tokens = op.tokens.as<int32_t>();
  const float* dx = op.dx.as<float>();
  float* dtable = op.dtable.as<float>();
  for_blocks(width, slice, [&](int64_t begin, int64_t end, int64_t) {
    for (int64_t t = 0; t < count; ++t) {
      const float* from = dx + t * width;
      float* to = dtable + tokens[t] * width;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

}  // namespace strand
