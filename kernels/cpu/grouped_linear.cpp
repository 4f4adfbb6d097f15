// Matrix products over the row blocks of experts. An expert's rows are another number every step, so blocks are cut
// into pieces of few distinct sizes: that bounds the primitives oneDNN has to build, and lets an overloaded expert be
// shared by several threads. Each piece is computed by one thread; the cut depends on offsets and number of threads
// alone.
#include <omp.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/gemm.h"

namespace strand {
namespace {

constexpr int64_t min_piece_rows = block_sizes::expert_rows_least;
constexpr int64_t max_piece_rows = block_sizes::expert_rows_most;
constexpr int64_t max_sum_rows = block_sizes::expert_sum_rows;
constexpr int64_t min_piece_outputs = block_sizes::expert_outputs_least;
constexpr int64_t max_output_pieces = block_sizes::expert_output_pieces;
// So many tasks a thread when it can be had: what the last one leaves idle is then small.
constexpr int64_t tasks_per_thread = 4;
// Multiples of 8 and of 16 run at the same rate; with a cut at 256 rows, 16 means at most 16 sizes.
constexpr int64_t alignment = block_sizes::row_alignment;

int64_t round_up(int64_t x, int64_t to) {
  return (x + to - 1) / to * to;
}

/// Cuts [begin, end) into equal pieces of at most `most` rows (a multiple of the alignment), the last one shorter.
template <typename Body>
void for_pieces(int64_t begin, int64_t end, int64_t most, const Body& body) {
  const int64_t pieces = blocks_of(end - begin, most);
  if (pieces == 0) return;
  const int64_t piece = round_up(blocks_of(end - begin, pieces), alignment);
  for (int64_t row = begin; row < end; row += piece) body(row, std::min(end, row + piece));
}

struct Task {
  int64_t expert;
  int64_t begin, end;                        // rows
  int64_t output_begin = 0, output_end = 0;  // of dW
  int64_t cost() const { return (end - begin) * std::max<int64_t>(1, output_end - output_begin); }
};

/// Longest first, so that the threads end at about the same time.
void by_descending_cost(std::vector<Task>& tasks) {
  std::sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) {
    if (a.cost() != b.cost()) return a.cost() > b.cost();
    return std::tie(a.begin, a.output_begin) < std::tie(b.begin, b.output_begin);
  });
}

/// Pieces of rows: for products whose result has the rows of the blocks.
std::vector<Task> row_tasks(const int32_t* offsets, int64_t experts) {
  const int64_t rows = offsets[experts] - offsets[0];
  const int64_t fair = round_up(rows / (tasks_per_thread * omp_get_max_threads()), alignment);
  const int64_t most = std::clamp(fair, min_piece_rows, max_piece_rows);
  std::vector<Task> tasks;
  for (int64_t e = 0; e < experts; ++e) {
    for_pieces(offsets[e], offsets[e + 1], most,
               [&](int64_t begin, int64_t end) { tasks.push_back({.expert = e, .begin = begin, .end = end}); });
  }
  by_descending_cost(tasks);
  return tasks;
}

/// Pieces of dW's outputs: 2 (see GemmShape::lda), or 4 or 8 for blocks that are too large a share of the work.
std::vector<Task> output_tasks(const int32_t* offsets, int64_t experts, int64_t outputs) {
  const int64_t rows = offsets[experts] - offsets[0];
  const int64_t fair = std::max<int64_t>(1, rows / (tasks_per_thread * omp_get_max_threads()));
  std::vector<Task> tasks;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t begin = offsets[e], end = offsets[e + 1];
    if (begin == end) continue;
    int64_t pieces = outputs >= 2 * min_piece_outputs ? 2 : 1;
    while (pieces < max_output_pieces && (end - begin) > pieces * fair * 2 && outputs >= 2 * pieces * min_piece_outputs)
      pieces *= 2;
    const int64_t piece = round_up(blocks_of(outputs, pieces), alignment);
    for (int64_t o = 0; o < outputs; o += piece) {
      tasks.push_back(
          {.expert = e, .begin = begin, .end = end, .output_begin = o, .output_end = std::min(outputs, o + piece)});
    }
  }
  by_descending_cost(tasks);
  return tasks;
}

std::byte* row_of(const Tensor& t, int64_t row) {
  return static_cast<std::byte*>(t.data) + static_cast<size_t>(row * t.dim(1)) * size_of(t.dtype);
}
std::byte* matrix_of(const Tensor& t, int64_t expert) {
  return static_cast<std::byte*>(t.data) + static_cast<size_t>(expert * t.dim(1) * t.dim(2)) * size_of(t.dtype);
}

/// Room for each thread to work on any of the products that are added.
class TaskBuffers {
 public:
  void add(const GemmShape& shape) { bytes_ = std::max(bytes_, product_workspace(shape, 1)); }
  void take(Workspace& memory) {
    stride_ = blocks_of(static_cast<int64_t>(bytes_), Workspace::line) * Workspace::line;
    base_ = memory.take<std::byte>(stride_ * omp_get_max_threads());
  }
  std::byte* mine() const { return base_ + stride_ * omp_get_thread_num(); }

 private:
  size_t bytes_ = 0;
  int64_t stride_ = 0;
  std::byte* base_ = nullptr;
};

// ---- y and dx: to[r] = op(W_e) from[r], in pieces of rows ----------------------------------------------------------

struct RowProducts {
  GemmLayout layout;
  Tensor from, weight, offsets, to;

  explicit RowProducts(const GroupedLinear& op)
      : layout(GemmLayout::nt), from(op.x), weight(op.weight), offsets(op.offsets), to(op.y) {}
  explicit RowProducts(const GroupedLinearBackwardInput& op)
      : layout(GemmLayout::nn), from(op.dy), weight(op.weight), offsets(op.offsets), to(op.dx) {}

  GemmShape shape(int64_t rows) const {
    return {.layout = layout, .in = from.dtype, .out = to.dtype, .m = rows, .n = to.dim(1), .k = from.dim(1)};
  }
};

/// How many rows the blocks of a step have, only routing tells: all that a piece can have.
size_t most_bytes(const RowProducts& products) {
  TaskBuffers buffers;
  for (int64_t rows = alignment; rows <= max_piece_rows; rows += alignment) buffers.add(products.shape(rows));
  Workspace memory;
  buffers.take(memory);
  return memory.bytes();
}

void multiply_rows(CpuGemm& gemm, const RowProducts& products, const std::vector<Task>& tasks,
                   const TaskBuffers& buffers) {
  gemm.run_tasks(static_cast<int64_t>(tasks.size()), [&](int64_t i, GemmWorker& worker) {
    const Task& task = tasks[static_cast<size_t>(i)];
    worker.run(products.shape(task.end - task.begin), row_of(products.from, task.begin),
               matrix_of(products.weight, task.expert), row_of(products.to, task.begin), buffers.mine());
  });
}

struct RowTasks {
  RowTasks(Workspace& memory, const RowProducts& products)
      : tasks(row_tasks(products.offsets.as<int32_t>(), products.weight.dim(0))) {
    for (const Task& task : tasks) buffers.add(products.shape(task.end - task.begin));
    buffers.take(memory);
  }
  std::vector<Task> tasks;
  TaskBuffers buffers;
};

// ---- dW ------------------------------------------------------------------------------------------------------------

GemmShape shape_of(const GroupedLinearBackwardWeight& op, int64_t outputs, int64_t rows) {
  return {.layout = GemmLayout::tn,
          .write = Write::accumulate,
          .in = op.x.dtype,
          .out = DType::f32,
          .m = outputs,
          .n = op.dweight.dim(2),
          .k = rows,
          .lda = op.dweight.dim(1)};
}

/// body(begin, end) for each piece of a task's rows that is summed in one product.
template <typename Body>
void for_sums(const Task& task, const Body& body) {
  for_pieces(task.begin, task.end, max_sum_rows, body);
}

struct OutputTasks {
  OutputTasks(Workspace& memory, const GroupedLinearBackwardWeight& op)
      : tasks(output_tasks(op.offsets.as<int32_t>(), op.dweight.dim(0), op.dweight.dim(1))) {
    for (const Task& task : tasks)
      for_sums(task, [&](int64_t begin, int64_t end) {
        buffers.add(shape_of(op, task.output_end - task.output_begin, end - begin));
      });
    buffers.take(memory);
  }
  std::vector<Task> tasks;
  TaskBuffers buffers;
};

/// All pieces that outputs and rows can be cut into.
size_t most_bytes(const GroupedLinearBackwardWeight& op) {
  const int64_t outputs = op.dweight.dim(1);
  TaskBuffers buffers;
  for (int64_t pieces = 1; pieces <= max_output_pieces; pieces *= 2) {
    const int64_t piece = round_up(blocks_of(outputs, pieces), alignment);
    for (const int64_t size : {std::min(piece, outputs), outputs % piece})
      for (int64_t rows = alignment; size > 0 && rows <= max_sum_rows; rows += alignment)
        buffers.add(shape_of(op, size, rows));
  }
  Workspace memory;
  buffers.take(memory);
  return memory.bytes();
}

}  // namespace

void CpuOps::run(const GroupedLinear& op) {
  const RowProducts products(op);
  const auto work = buffers<RowTasks>(products);
  multiply_rows(*gemm_, products, work.tasks, work.buffers);
}

void CpuOps::run(const GroupedLinearBackwardInput& op) {
  const RowProducts products(op);
  const auto work = buffers<RowTasks>(products);
  multiply_rows(*gemm_, products, work.tasks, work.buffers);
}

void CpuOps::run(const GroupedLinearBackwardWeight& op) {
  const int64_t outputs = op.dweight.dim(1), inputs = op.dweight.dim(2);
  const auto work = buffers<OutputTasks>(op);
  gemm_->run_tasks(static_cast<int64_t>(work.tasks.size()), [&](int64_t i, GemmWorker& worker) {
    const Task& task = work.tasks[static_cast<size_t>(i)];
    float* dweight = op.dweight.as<float>() + (task.expert * outputs + task.output_begin) * inputs;
    for_sums(task, [&](int64_t begin, int64_t end) {
      const std::byte* dy = row_of(op.dy, begin) + static_cast<size_t>(task.output_begin) * size_of(op.dy.dtype);
      worker.run(shape_of(op, task.output_end - task.output_begin, end - begin), dy, row_of(op.x, begin), dweight,
                 work.buffers.mine());
    });
  });
}

size_t CpuWorkspaces::bytes(const GroupedLinear& op) const {
  return most_bytes(RowProducts(op));
}
size_t CpuWorkspaces::bytes(const GroupedLinearBackwardInput& op) const {
  return most_bytes(RowProducts(op));
}
size_t CpuWorkspaces::bytes(const GroupedLinearBackwardWeight& op) const {
  return most_bytes(op);
}

}  // namespace strand
