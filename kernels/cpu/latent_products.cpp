// The products with the parts of W_kvb that the latent cache leaves to queries and outputs. A task is one head and one
// block of tokens, which are the lanes of vectors; the head's rows of the weight are read once a block.
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/dispatch.h"

namespace strand {

namespace {
using namespace attention;
using simd::width;

/// to [T, H·outputs] = from [T, …] times a matrix of each head: some of its n + v rows of `latent` elements.
struct Products {
  int64_t tokens, heads, inputs, outputs;
  int64_t row_stride, head_stride;      ///< of `from`: elements between tokens, and between heads
  int64_t latent, head_rows;            ///< of the weight: elements of a row, and rows of a head
  int64_t first_row, used_rows;         ///< which of these are the matrix
  int64_t output_stride, input_stride;  ///< of the matrix: elements between outputs, and between inputs
};

Products products_of(const AbsorbKeys& op) {
  const LatentLayout& l = op.layout;
  return {.tokens = l.rows(),
          .heads = l.heads,
          .inputs = l.nope_dim,
          .outputs = l.latent,
          .row_stride = op.queries.dim(1),
          .head_stride = l.key_dim(),
          .latent = l.latent,
          .head_rows = l.nope_dim + l.value_dim,
          .first_row = 0,
          .used_rows = l.nope_dim,
          .output_stride = 1,
          .input_stride = l.latent};
}
Products products_of(const ExpandValues& op) {
  const LatentLayout& l = op.layout;
  return {.tokens = l.rows(),
          .heads = l.heads,
          .inputs = l.latent,
          .outputs = l.value_dim,
          .row_stride = op.found.dim(1),
          .head_stride = l.latent,
          .latent = l.latent,
          .head_rows = l.nope_dim + l.value_dim,
          .first_row = l.nope_dim,
          .used_rows = l.value_dim,
          .output_stride = l.latent,
          .input_stride = 1};
}

/// The buffers in which one thread works on one block of tokens.
struct Tiles {
  float* rows;     ///< [64, inputs padded]
  float* packed;   ///< [inputs padded, 64]: its transpose
  float* sums;     ///< [outputs padded, 64]
  float* ones;     ///< [64]
  float* weights;  ///< a head's rows widened, when act is not f32

  Tiles(Pieces& pieces, const Products& p, DType act)
      : rows(pieces.take(block * padded(p.inputs))),
        packed(pieces.take(block * padded(p.inputs))),
        sums(pieces.take(block * padded(p.outputs))),
        ones(pieces.take(block)),
        weights(pieces.take(act == DType::f32 ? 0 : p.used_rows * p.latent)) {}
};

struct Buffers {
  template <typename Op>
  Buffers(Workspace& memory, const Op& op) : tiles(memory, floats(products_of(op), op.weight.dtype)) {}
  ThreadBuffers tiles;

 private:
  static int64_t floats(const Products& p, DType act) {
    Pieces size;
    Tiles(size, p, act);
    return size.used();
  }
};

template <typename T>
void multiply(const Products& p, const Buffers& buffers, const Tensor& from, const Tensor& weight, const Tensor& to) {
  const int64_t blocks = blocks_of(p.tokens, block);
  for_blocks(p.heads * blocks, 1, [&](int64_t item, int64_t, int64_t) {
    const int64_t h = item / blocks, first = item % blocks * block, count = std::min(block, p.tokens - first);
    Pieces pieces(buffers.tiles.mine());
    const Tiles t(pieces, p, weight.dtype);
    pack_rows(from.as<T>() + first * p.row_stride + h * p.head_stride, p.row_stride, count, p.inputs, t.rows);
    transpose_rows(t.rows, padded(p.inputs), 1.0f, t.packed);
    const T* rows = weight.as<T>() + (h * p.head_rows + p.first_row) * p.latent;
    const float* head = widened(rows, p.used_rows * p.latent, t.weights);
    tile_gemm<TileUpdate::overwrite>({head, p.output_stride, p.input_stride}, {t.packed, block}, {t.sums, block},
                                     p.outputs, blocks_of(count, width), p.inputs);
    std::fill_n(t.ones, block, 1.0f);
    std::fill(t.sums + p.outputs * block, t.sums + padded(p.outputs) * block, 0.0f);
    const int64_t stride = p.heads * p.outputs;
    unpack_columns(t.sums, t.ones, count, p.outputs, to.as<T>() + first * stride + h * p.outputs, stride);
  });
}
}  // namespace

void CpuOps::run(const AbsorbKeys& op) {
  const auto memory = buffers<Buffers>(op);
  dispatch_act(op.weight.dtype, [&](auto tag) {
    multiply<typename decltype(tag)::type>(products_of(op), memory, op.queries, op.weight, op.absorbed);
  });
}

void CpuOps::run(const ExpandValues& op) {
  const auto memory = buffers<Buffers>(op);
  dispatch_act(op.weight.dtype, [&](auto tag) {
    multiply<typename decltype(tag)::type>(products_of(op), memory, op.found, op.weight, op.out);
  });
}

size_t CpuWorkspaces::bytes(const AbsorbKeys& op) const {
  return workspace_bytes<Buffers>(op);
}
size_t CpuWorkspaces::bytes(const ExpandValues& op) const {
  return workspace_bytes<Buffers>(op);
}

}  // namespace strand
