// Dense matrix products, and the router's, which are always f32.
#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"

namespace strand {

namespace {

GemmShape shape_of(const Linear& op) {
  return {.layout = GemmLayout::nt,
          .in = op.x.dtype,
          .out = op.y.dtype,
          .m = op.x.dim(0),
          .n = op.weight.dim(0),
          .k = op.weight.dim(1)};
}

GemmShape shape_of(const LinearBackwardInput& op) {
  return {.layout = GemmLayout::nn,
          .write = op.write,
          .in = op.dy.dtype,
          .out = op.dx.dtype,
          .m = op.dy.dim(0),
          .n = op.weight.dim(1),
          .k = op.weight.dim(0)};
}

/// body(begin, shape) for each slice of the rows of dW.
template <typename Body>
void for_weight_slices(const LinearBackwardWeight& op, const Body& body) {
  const int64_t outputs = op.dweight.dim(0);
  constexpr int64_t multiple = block_sizes::weight_slice_multiple;
  const bool cut = outputs >= 2 * block_sizes::weight_slice;
  const int64_t slice =
      cut ? blocks_of((outputs + 1) / 2, multiple) * multiple : outputs;  // two slices, none of one row
  for (int64_t begin = 0; begin < outputs; begin += slice) {
    body(begin, GemmShape{.layout = GemmLayout::tn,
                          .write = Write::accumulate,
                          .in = op.x.dtype,
                          .out = op.dweight.dtype,
                          .m = std::min(slice, outputs - begin),
                          .n = op.dweight.dim(1),
                          .k = op.x.dim(0),
                          .lda = outputs});
  }
}

/// Room for the largest of the products that are added.
class ProductsBuffer {
 public:
  void add(const GemmShape& shape) { bytes_ = std::max(bytes_, product_workspace(shape, omp_get_max_threads())); }
  std::byte* take(Workspace& memory) const { return memory.take<std::byte>(static_cast<int64_t>(bytes_)); }

 private:
  size_t bytes_ = 0;
};

template <typename Op>
struct LinearBuffers {
  LinearBuffers(Workspace& memory, const Op& op) : product(memory, shape_of(op)) {}
  ProductBuffer product;
};

struct WeightBuffers {
  WeightBuffers(Workspace& memory, const LinearBackwardWeight& op) {
    ProductsBuffer products;
    for_weight_slices(op, [&](int64_t, const GemmShape& shape) { products.add(shape); });
    product = products.take(memory);
  }
  std::byte* product;
};

}  // namespace

void CpuOps::run(const Linear& op) {
  if (op.x.dim(0) == 0) return;
  gemm_->run(shape_of(op), op.x.data, op.weight.data, op.y.data, buffers<LinearBuffers<Linear>>(op).product.memory);
}

void CpuOps::run(const LinearBackwardInput& op) {
  if (op.dy.dim(0) == 0) return;
  gemm_->run(shape_of(op), op.dy.data, op.weight.data, op.dx.data,
             buffers<LinearBuffers<LinearBackwardInput>>(op).product.memory);
}

void CpuOps::run(const LinearBackwardWeight& op) {
  if (op.x.dim(0) == 0) return;
  std::byte* const product = buffers<WeightBuffers>(op).product;
  for_weight_slices(op, [&](int64_t begin, const GemmShape& shape) {
    gemm_->run(shape, static_cast<const std::byte*>(op.dy.data) + static_cast<size_t>(begin) * size_of(op.dy.dtype),
               op.x.data, op.dweight.as<float>() + begin * op.dweight.dim(1), product);
  });
}

namespace {

constexpr int64_t widened_rows = block_sizes::widened_rows;

/// body(begin, end) for the blocks of rows of x that are widened at a time; all rows when x is f32 as it is.
template <typename Body>
void for_row_blocks(const Tensor& x, const Body& body) {
  const int64_t rows = x.dim(0), step = x.dtype == DType::f32 ? std::max<int64_t>(1, rows) : widened_rows;
  for (int64_t begin = 0; begin < rows; begin += step) body(begin, std::min(rows, begin + step));
}

/// The rows [begin, end) of x in f32: converted into `widened`, or where they are.
const float* f32_rows(const Tensor& x, int64_t begin, int64_t end, float* widened) {
  const int64_t columns = x.dim(1);
  if (x.dtype == DType::f32) return x.as<float>() + begin * columns;
  const bf16* from = x.as<bf16>() + begin * columns;
  for_blocks((end - begin) * columns, block_sizes::widened_elements,
             [&](int64_t first, int64_t last, int64_t) { convert(from + first, widened + first, last - first); });
  return widened;
}

float* take_f32_rows(Workspace& memory, const Tensor& x) {
  return memory.take<float>(x.dtype == DType::f32 ? 0 : std::min(x.dim(0), widened_rows) * x.dim(1));
}

GemmShape logits_shape(const RouterLinear& op, int64_t rows) {
  return {.layout = GemmLayout::nt, .m = rows, .n = op.weight.dim(0), .k = op.weight.dim(1)};
}

GemmShape dx_shape(const RouterLinearBackward& op) {
  return {.layout = GemmLayout::nn,
          .write = Write::accumulate,
          .m = op.dx.dim(0),
          .n = op.weight.dim(1),
          .k = op.weight.dim(0)};
}

GemmShape dweight_shape(const RouterLinearBackward& op, int64_t rows) {
  return {
      .layout = GemmLayout::tn, .write = Write::accumulate, .m = op.weight.dim(0), .n = op.weight.dim(1), .k = rows};
}

struct RouterBuffers {
  RouterBuffers(Workspace& memory, const RouterLinear& op) : x(take_f32_rows(memory, op.x)) {
    ProductsBuffer products;
    for_row_blocks(op.x, [&](int64_t begin, int64_t end) { products.add(logits_shape(op, end - begin)); });
    product = products.take(memory);
  }
  RouterBuffers(Workspace& memory, const RouterLinearBackward& op) : x(take_f32_rows(memory, op.x)) {
    ProductsBuffer products;
    products.add(dx_shape(op));
    for_row_blocks(op.x, [&](int64_t begin, int64_t end) { products.add(dweight_shape(op, end - begin)); });
    product = products.take(memory);
  }
  float* x;  ///< [widened_rows, D]
  std::byte* product;
};

}  // namespace

void CpuOps::run(const RouterLinear& op) {
  float* logits = op.logits.as<float>();
  const auto memory = buffers<RouterBuffers>(op);
  for_row_blocks(op.x, [&](int64_t begin, int64_t end) {
    gemm_->run(logits_shape(op, end - begin), f32_rows(op.x, begin, end, memory.x), op.weight.data,
               logits + begin * op.weight.dim(0), memory.product);
  });
}

void CpuOps::run(const RouterLinearBackward& op) {
  if (op.dx.dim(0) == 0) return;
  const auto memory = buffers<RouterBuffers>(op);
  gemm_->run(dx_shape(op), op.dlogits.data, op.weight.data, op.dx.data, memory.product);
  const float* dlogits = op.dlogits.as<float>();
  for_row_blocks(op.x, [&](int64_t begin, int64_t end) {
    gemm_->run(dweight_shape(op, end - begin), dlogits + begin * op.weight.dim(0), f32_rows(op.x, begin, end, memory.x),
               op.dweight.data, memory.product);
  });
}

size_t CpuWorkspaces::bytes(const Linear& op) const {
  return workspace_bytes<LinearBuffers<Linear>>(op);
}
size_t CpuWorkspaces::bytes(const LinearBackwardInput& op) const {
  return workspace_bytes<LinearBuffers<LinearBackwardInput>>(op);
}
size_t CpuWorkspaces::bytes(const LinearBackwardWeight& op) const {
  return workspace_bytes<WeightBuffers>(op);
}
size_t CpuWorkspaces::bytes(const RouterLinear& op) const {
  return workspace_bytes<RouterBuffers>(op);
}
size_t CpuWorkspaces::bytes(const RouterLinearBackward& op) const {
  return workspace_bytes<RouterBuffers>(op);
}

}  // namespace strand
