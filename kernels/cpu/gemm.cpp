#include "kernels/cpu/gemm.h"

#include <omp.h>

#include <exception>
#include <string_view>

#include "core/error.h"

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

// ---- One thread, or one fixed team --------------------------------------------------------------------------------
size_t GemmWorker::Hash::operator()(const GemmShape& s) const {
  uint64_t h = static_cast<uint64_t>(s.layout) | static_cast<uint64_t>(s.write) << 8 |
               static_cast<uint64_t>(s.in) << 16 | static_cast<uint64_t>(s.out) << 24;
  for (const int64_t size : {s.m, s.n, s.k, s.lda}) {
    h = (h ^ static_cast<uint64_t>(size)) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
  }
  return h;
}

GemmWorker::Product GemmWorker::make(const GemmShape& s) const {
  const Memory::desc a = matrix(s.m, s.k, s.in, s.layout == GemmLayout::tn, s.lda);
  const Memory::desc b = matrix(s.k, s.n, s.in, s.layout == GemmLayout::nt);
  const Memory::desc c = matrix(s.m, s.n, s.out, false);
  dnnl::primitive_attr attributes;
  // With a scratchpad of oneDNN's own, a primitive would have to run on the thread that made it.
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.write == Write::accumulate) {
    dnnl::post_ops add;
    add.append_sum(1.0f);
    attributes.set_post_ops(add);
  }
  const dnnl::matmul::primitive_desc description = describe(a, b, c, attributes, engine_);
  const Memory::desc scratchpad = description.scratchpad_desc();
  Product p{dnnl::matmul(description),
            Memory(a, engine_, DNNL_MEMORY_NONE),
            Memory(b, engine_, DNNL_MEMORY_NONE),
            Memory(c, engine_, DNNL_MEMORY_NONE),
            Memory(scratchpad, engine_, DNNL_MEMORY_NONE),
            {},
            scratchpad.get_size()};
  p.arguments = {
      {DNNL_ARG_SRC, p.a}, {DNNL_ARG_WEIGHTS, p.b}, {DNNL_ARG_DST, p.c}, {DNNL_ARG_SCRATCHPAD, p.scratchpad}};
  return p;
}

GemmWorker::Product& GemmWorker::product(const GemmShape& shape) {
  const auto found = products_.find(shape);
  if (found != products_.end()) return found->second;
  if (products_.size() >= max_products) products_.clear();
  try {
    return products_.emplace(shape, make(shape)).first->second;
  } catch (const dnnl::error& e) {
    fail("oneDNN has no {} matrix product [{}, {}] x [{}, {}] for this CPU ({})", to_string(shape.in), shape.m, shape.k,
         shape.k, shape.n, e.what());
  }
}

void GemmWorker::run(const GemmShape& shape, const void* a, const void* b, void* c) {
  if (shape.in == DType::bf16 && !onednn_multiplies_bf16())
    return multiply_widened(shape, static_cast<const bf16*>(a), static_cast<const bf16*>(b), c);
  multiply(shape, a, b, c);
}

void GemmWorker::multiply(const GemmShape& shape, const void* a, const void* b, void* c) {
  Product& p = product(shape);
  p.a.set_data_handle(const_cast<void*>(a));
  p.b.set_data_handle(const_cast<void*>(b));
  p.c.set_data_handle(c);
  if (p.scratchpad_bytes > 0) p.scratchpad.set_data_handle(scratchpad_.get<std::byte>(int64_t(p.scratchpad_bytes)));
  p.primitive.execute(stream_, p.arguments);
  stream_.wait();
}

// ---- All of them --------------------------------------------------------------------------------------------------
CpuGemm::CpuGemm() : engine_(dnnl::engine::kind::cpu, 0) {
  dnnl::set_primitive_cache_capacity(static_cast<int>(2 * max_products));
}

void CpuGemm::run(const GemmShape& shape, const void* a, const void* b, void* c) {
  const int threads = omp_get_max_threads();
  if (!all_threads_ || all_threads_->threads() != threads) all_threads_.emplace(engine_, threads);
  all_threads_->run(shape, a, b, c);
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
