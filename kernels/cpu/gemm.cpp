#include "kernels/cpu/gemm.h"

#include <omp.h>

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <string_view>

#include "core/error.h"
#include "kernels/cpu/widened_gemm.h"

namespace strand {
namespace {

using Memory = dnnl::memory;

constexpr size_t max_products = block_sizes::kept_products;

Memory::data_type onednn_type(DType type) {
  require(type == DType::f32 || type == DType::bf16, "the cpu backend multiplies f32 or bf16, not {}", to_string(type));
  return type == DType::f32 ? Memory::data_type::f32 : Memory::data_type::bf16;
}

/// Describes a matrix [rows, columns] of a product. Either it or its transpose is stored row by row.
Memory::desc matrix(int64_t rows, int64_t columns, DType type, bool transposed, int64_t stride = 0) {
  if (stride == 0) stride = transposed ? rows : columns;
  const Memory::dims strides = transposed ? Memory::dims{1, stride} : Memory::dims{stride, 1};
  return Memory::desc({rows, columns}, onednn_type(type), strides);
}

dnnl::matmul::primitive_desc describe(const Memory::desc& a, const Memory::desc& b, const Memory::desc& c,
                                      const dnnl::primitive_attr& attributes, const dnnl::engine& engine) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine, a, b, c, attributes};
#else
  return {dnnl::matmul::desc(a, b, c), attributes, engine};
#endif
}

}  // namespace

bool onednn_multiplies_bf16() {
  static const bool yes = [] {
    // Without AVX512-BF16, oneDNN's products widen each operand anew for every tile that uses it: three times slower
    // than fp32, where blocks that are widened once cost next to nothing.
    const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
    if (isa == dnnl::cpu_isa::avx512_core || isa == dnnl::cpu_isa::avx512_core_vnni) return false;
    const Memory::desc square = matrix(64, 64, DType::bf16, false);
    try {
      const auto product = describe(square, square, square, {}, dnnl::engine(dnnl::engine::kind::cpu, 0));
      // oneDNN's reference implementations are plain loops, hundreds of times slower.
      return std::string_view(product.impl_info_str()).find("ref") == std::string_view::npos;
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return yes;
}

size_t GemmShapeHash::operator()(const GemmShape& s) const {
  uint64_t h = static_cast<uint64_t>(s.layout) | static_cast<uint64_t>(s.write) << 8 |
               static_cast<uint64_t>(s.in) << 16 | static_cast<uint64_t>(s.out) << 24;
  for (const int64_t size : {s.m, s.n, s.k, s.lda}) {
    h = (h ^ static_cast<uint64_t>(size)) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
  }
  return h;
}

namespace {
struct Matrices {
  Memory::desc a, b, c;
  explicit Matrices(const GemmShape& s)
      : a(matrix(s.m, s.k, s.in, s.layout == GemmLayout::tn, s.lda)),
        b(matrix(s.k, s.n, s.in, s.layout == GemmLayout::nt)),
        c(matrix(s.m, s.n, s.out, false)) {}
};

/// How oneDNN computes a product on as many threads as this one may use now. Throws Error when it cannot.
dnnl::matmul::primitive_desc describe(const GemmShape& s, const dnnl::engine& engine) {
  require(s.layout != GemmLayout::tn || s.m > 1 || s.lda <= 1, "a product of one column of {} with {} columns of B",
          s.lda, s.n);
  const Matrices matrices(s);
  dnnl::primitive_attr attributes;
  // With a scratchpad of oneDNN's own, a primitive would have to run on the thread that made it.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.write == Write::accumulate) {
    dnnl::post_ops add;
    add.append_sum(1.0f);
    attributes.set_post_ops(add);
  }
  try {
    return describe(matrices.a, matrices.b, matrices.c, attributes, engine);
  } catch (const dnnl::error& e) {
    fail("oneDNN has no {} matrix product [{}, {}] x [{}, {}] for this CPU ({})", to_string(s.in), s.m, s.k, s.k, s.n,
         e.what());
  }
}

/// Bytes of the scratchpad of a product that oneDNN computes on so many threads. Sizes are kept, as the operations ask
/// for the same ones in every step.
size_t scratchpad_bytes(const GemmShape& shape, int threads) {
  static std::mutex mutex;
  static std::map<int, std::unordered_map<GemmShape, size_t, GemmShapeHash>> kept;
  const std::lock_guard lock(mutex);
  auto& sizes = kept[threads];
  if (const auto found = sizes.find(shape); found != sizes.end()) return found->second;
  if (sizes.size() >= max_products) sizes.clear();
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const int threads_here = omp_get_max_threads();
  omp_set_num_threads(threads);
  const size_t bytes = describe(shape, engine).scratchpad_desc().get_size();
  omp_set_num_threads(threads_here);
  return sizes[shape] = bytes;
}
}  // namespace

size_t product_workspace(const GemmShape& shape, int threads) {
  if (shape.m == 0 || shape.n == 0 || shape.k == 0) return 0;
  if (shape.in != DType::bf16 || onednn_multiplies_bf16()) return scratchpad_bytes(shape, threads);
  size_t most = 0;
  for_widened_shapes(shape, [&](const GemmShape& s) { most = std::max(most, scratchpad_bytes(s, threads)); });
  return widened_bytes + most;
}

// ---- One thread, or one fixed team --------------------------------------------------------------------------------
GemmWorker::Product GemmWorker::make(const GemmShape& s) const {
  const dnnl::matmul::primitive_desc description = describe(s, engine_);
  const Matrices matrices(s);
  Product p{dnnl::matmul(description),
            Memory(matrices.a, engine_, DNNL_MEMORY_NONE),
            Memory(matrices.b, engine_, DNNL_MEMORY_NONE),
            Memory(matrices.c, engine_, DNNL_MEMORY_NONE),
            Memory(description.scratchpad_desc(), engine_, DNNL_MEMORY_NONE),
            {}};
  p.arguments = {
      {DNNL_ARG_SRC, p.a}, {DNNL_ARG_WEIGHTS, p.b}, {DNNL_ARG_DST, p.c}, {DNNL_ARG_SCRATCHPAD, p.scratchpad}};
  return p;
}

GemmWorker::Product& GemmWorker::product(const GemmShape& shape) {
  const auto found = products_.find(shape);
  if (found != products_.end()) return found->second;
  if (products_.size() >= max_products) products_.clear();
  return products_.emplace(shape, make(shape)).first->second;
}

void GemmWorker::run(const GemmShape& shape, const void* a, const void* b, void* c, std::byte* workspace) {
  if (shape.in == DType::bf16 && !onednn_multiplies_bf16())
    return multiply_widened(shape, static_cast<const bf16*>(a), static_cast<const bf16*>(b), c, workspace);
  multiply(shape, a, b, c, workspace);
}

void GemmWorker::multiply(const GemmShape& shape, const void* a, const void* b, void* c, std::byte* workspace) {
  Product& p = product(shape);
  p.a.set_data_handle(const_cast<void*>(a));
  p.b.set_data_handle(const_cast<void*>(b));
  p.c.set_data_handle(c);
  p.scratchpad.set_data_handle(workspace);
  p.primitive.execute(stream_, p.arguments);
  stream_.wait();
}

// ---- All of them --------------------------------------------------------------------------------------------------
CpuGemm::CpuGemm() : engine_(dnnl::engine::kind::cpu, 0) {
  dnnl::set_primitive_cache_capacity(static_cast<int>(2 * max_products));
}

void CpuGemm::run(const GemmShape& shape, const void* a, const void* b, void* c, std::byte* workspace) {
  const int threads = omp_get_max_threads();
  if (!all_threads_ || all_threads_->threads() != threads) all_threads_.emplace(engine_, threads);
  all_threads_->run(shape, a, b, c, workspace);
}

void CpuGemm::run_tasks(int64_t tasks, const TaskBody& body) {
  const int threads = omp_get_max_threads();
  while (static_cast<int>(one_thread_.size()) < threads) one_thread_.emplace_back(engine_, 1);
  std::exception_ptr error;
#pragma omp parallel
  {
    // oneDNN reads this setting on this thread until the parallel region ends. So primitives are made for one thread,
    // and run on one.
    omp_set_num_threads(1);
    GemmWorker& worker = one_thread_[static_cast<size_t>(omp_get_thread_num())];
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) {
      try {
        body(task, worker);
      } catch (...) {
#pragma omp critical(strand_gemm_error)
        if (!error) error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace strand
