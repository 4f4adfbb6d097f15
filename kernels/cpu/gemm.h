#pragma once
// Matrix products by oneDNN. For every new shape oneDNN makes a primitive (generated machine code), which costs about
// as much as a product of 50 MFLOP. So primitives are kept, and callers whose shapes vary (the row blocks of experts)
// cut their work into few distinct sizes.
//
// A product runs either on all threads (dense layers), or on the calling thread inside a parallel region (experts,
// which are shared among the threads). The same shape on the same number of threads gives the same bits, whichever
// thread runs it.
#include <deque>
#include <dnnl.hpp>
#include <functional>
#include <optional>
#include <unordered_map>

#include "core/dtype.h"
#include "kernels/cpu/token_blocks.h"
#include "kernels/cpu/workspace.h"
#include "kernels/ops/linear.h"

namespace strand {

/// Which operand is stored transposed, named after the operation that needs it.
enum class GemmLayout : uint8_t {
  nt,  ///< y = x Wᵀ:    A [m, k], B [n, k]
  nn,  ///< dx = dy W:   A [m, k], B [k, n]
  tn,  ///< dW = dyᵀ x:  A [k, m], B [k, n]
};

/// C [m, n] (+)= op(A) op(B), row-major, summed over k in f32.
struct GemmShape {
  GemmLayout layout = GemmLayout::nt;
  Write write = Write::overwrite;
  DType in = DType::f32;        ///< of A and B: f32 or bf16
  DType out = DType::f32;       ///< of C: f32, or bf16 when `in` is
  int64_t m = 0, n = 0, k = 0;  ///< all positive
  /// Elements from one stored row of A to the next; 0 = the rows are adjacent. oneDNN copies an A whose rows are not
  /// adjacent block by block, which makes tn products 5 to 15 % faster (40 % when k is small) unless C is in cache. So
  /// gradients of weights are computed in two slices of m, each of which has such an A. A single row of a tn product
  /// (m = 1) must be a whole A: oneDNN 3.7 takes a column of a wider matrix for adjacent numbers.
  int64_t lda = 0;

  bool operator==(const GemmShape&) const = default;
};

struct GemmShapeHash {
  size_t operator()(const GemmShape& s) const;
};

/// Bytes that a product works in beside its matrices, on so many threads. Not to be called inside a parallel region.
size_t product_workspace(const GemmShape& shape, int threads);

/// Primitives for a fixed number of threads. A worker has one user at a time, so it needs no locks. oneDNN's own cache
/// gives the same machine code to all workers.
class GemmWorker {
 public:
  /// `threads` must be the number oneDNN sees (omp_get_max_threads()) whenever run() is called.
  GemmWorker(const dnnl::engine& engine, int threads) : engine_(engine), stream_(engine), threads_(threads) {}

  /// Where oneDNN has no bf16 products of the CPU's own (onednn_multiplies_bf16), operands are widened and multiplied
  /// in f32, block by block. `workspace`: product_workspace() bytes on a cache line.
  void run(const GemmShape& shape, const void* a, const void* b, void* c, std::byte* workspace);
  int threads() const { return threads_; }

 private:
  struct Product {
    dnnl::matmul primitive;
    dnnl::memory a, b, c, scratchpad;
    std::unordered_map<int, dnnl::memory> arguments;  // the four above, as execute() wants them
  };
  void multiply(const GemmShape& shape, const void* a, const void* b, void* c, std::byte* workspace);
  void multiply_widened(const GemmShape& shape, const bf16* a, const bf16* b, void* c, std::byte* workspace);
  Product& product(const GemmShape& shape);
  Product make(const GemmShape& shape) const;

  dnnl::engine engine_;
  dnnl::stream stream_;
  int threads_;
  std::unordered_map<GemmShape, Product, GemmShapeHash> products_;
};

/// Whether oneDNN has bf16 products that use bf16 instructions of this CPU, within its limit (isa.h).
bool onednn_multiplies_bf16();

class CpuGemm {
 public:
  CpuGemm();

  /// One product on all threads. Not to be called inside a parallel region. `workspace`: product_workspace() bytes for
  /// omp_get_max_threads() threads, on a cache line.
  void run(const GemmShape& shape, const void* a, const void* b, void* c, std::byte* workspace);

  /// Calls body(task, worker) for each task in [0, tasks). The tasks are given to the threads in this order, and
  /// products of `worker` run on the thread of the task. When a body throws, the first exception is thrown here after
  /// the others have ended.
  using TaskBody = std::function<void(int64_t task, GemmWorker& worker)>;
  void run_tasks(int64_t tasks, const TaskBody& body);

 private:
  dnnl::engine engine_;
  std::optional<GemmWorker> all_threads_;  // for the present number of threads
  std::deque<GemmWorker> one_thread_;      // by omp_get_thread_num()
};

/// The workspace of a product on all threads.
struct ProductBuffer {
  ProductBuffer(Workspace& space, const GemmShape& shape)
      : memory(space.take<std::byte>(static_cast<int64_t>(product_workspace(shape, omp_get_max_threads())))) {}
  std::byte* memory;
};

}  // namespace strand
