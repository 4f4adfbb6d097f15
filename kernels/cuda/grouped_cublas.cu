#include <cstddef>

#include "kernels/cuda/errors.h"
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/grouped_cublas.h"

namespace strand {

using namespace gpu;

namespace {

constexpr int64_t most_experts = 4096;

int64_t bytes_of(cudaDataType_t type) {
  return type == CUDA_R_32F ? 4 : 2;
}

/// Where the blocks of a grouped product begin. cuBLAS wants three arrays, each with one pointer for each block.
struct PointerTables {
  const void** weights;
  const void** from;
  void** to;
};

constexpr int pointer_threads = 256;

// A thread writes the pointers of one expert. Experts without rows have no entry, so the entry of an expert is the
// number of experts with rows before it.
__global__ void __launch_bounds__(pointer_threads)
    pointers_kernel(PointerTables tables, const char* weight, const char* from, char* to, const int* offsets,
                    int experts, int64_t weight_bytes, int64_t from_row_bytes, int64_t to_row_bytes) {
  const int expert = static_cast<int>(blockIdx.x * pointer_threads + threadIdx.x);
  if (expert >= experts || offsets[expert] == offsets[expert + 1]) return;
  int entry = 0;
  for (int before = 0; before < expert; ++before) entry += offsets[before] != offsets[before + 1] ? 1 : 0;
  tables.weights[entry] = weight + expert * weight_bytes;
  tables.from[entry] = from + offsets[expert] * from_row_bytes;
  tables.to[entry] = to + offsets[expert] * to_row_bytes;
}

}  // namespace

GroupedCublas::GroupedCublas(CudaDevice& device)
    : device_(device),
      stream_(device.stream(Stream::compute)),
      offsets_(device, MemoryKind::staging, static_cast<size_t>(most_experts + 1) * sizeof(int32_t)) {
  check(cudaEventCreateWithFlags(&arrived_, cudaEventDisableTiming), "making an event");
}

GroupedCublas::~GroupedCublas() {
  cudaEventDestroy(arrived_);
}

const std::vector<GroupedCublas::Block>& GroupedCublas::read_blocks(const GroupShape& shape, const char* operation) {
  require_at_most(most_experts, shape.experts, "experts", operation);
  const auto* const offsets = static_cast<const int32_t*>(offsets_.data());
  check(cudaMemcpyAsync(offsets_.data(), shape.offsets, static_cast<size_t>(shape.experts + 1) * sizeof(int32_t),
                        cudaMemcpyDeviceToHost, stream_),
        operation);
  check(cudaEventRecord(arrived_, stream_), operation);
  check(cudaEventSynchronize(arrived_), operation);
  blocks_.clear();
  for (int e = 0; e < shape.experts; ++e)
    if (offsets[e + 1] > offsets[e]) blocks_.push_back({e, offsets[e], offsets[e + 1] - offsets[e]});
  return blocks_;
}

// cuBLAS counts columns first (linear.cpp): toᵀ [columns, rows] = op(W) · fromᵀ.
void GroupedCublas::multiply_rows(const std::vector<Block>& blocks, const void* weight,
                                  cublasOperation_t weight_operation, const void* from, void* to, cudaDataType_t type,
                                  const GroupShape& shape, int inner, int columns, const char* operation) {
  if (blocks.empty()) return;
  const size_t n = blocks.size();
  auto** const pointers = static_cast<void**>(device_.workspace(3 * n * sizeof(void*)));
  const PointerTables tables{.weights = const_cast<const void**>(pointers),
                             .from = const_cast<const void**>(pointers + n),
                             .to = pointers + 2 * n};
  const int64_t bytes = bytes_of(type);
  GPU_LAUNCH(pointers_kernel, dim3(static_cast<unsigned>(ceil_div(shape.experts, pointer_threads))),
             dim3(pointer_threads), 0, stream_, tables, static_cast<const char*>(weight),
             static_cast<const char*>(from), static_cast<char*>(to), shape.offsets, shape.experts,
             bytes * shape.inputs * shape.outputs, bytes * inner, bytes * columns);
  const std::vector<cublasOperation_t> weight_operations(n, weight_operation), as_it_is(n, CUBLAS_OP_N);
  const std::vector<int> ms(n, columns), ks(n, inner), ones(n, 1), weight_strides(n, shape.inputs);
  const std::vector<float> alpha(n, 1.0f), beta(n, 0.0f);
  std::vector<int> ns;
  for (const Block& block : blocks) ns.push_back(block.rows);
  check(cublasGemmGroupedBatchedEx(device_.blas(), weight_operations.data(), as_it_is.data(), ms.data(), ns.data(),
                                   ks.data(), alpha.data(), tables.weights, type, weight_strides.data(), tables.from,
                                   type, ks.data(), beta.data(), tables.to, type, ms.data(), static_cast<int>(n),
                                   ones.data(), CUBLAS_COMPUTE_32F),
        operation);
}

void GroupedCublas::forward(const void* x, const void* weight, void* y, cudaDataType_t type, const GroupShape& shape) {
  multiply_rows(read_blocks(shape, "GroupedLinear"), weight, CUBLAS_OP_T, x, y, type, shape, shape.inputs,
                shape.outputs, "GroupedLinear");
}

void GroupedCublas::backward_input(const void* dy, const void* weight, void* dx, cudaDataType_t type,
                                   const GroupShape& shape) {
  multiply_rows(read_blocks(shape, "GroupedLinearBackwardInput"), weight, CUBLAS_OP_N, dy, dx, type, shape,
                shape.outputs, shape.inputs, "GroupedLinearBackwardInput");
}

// cuBLAS has no grouped product of bf16 into f32, so each expert gets a product of its own.
void GroupedCublas::backward_weight(const void* dy, const void* x, float* dweight, cudaDataType_t type,
                                    const GroupShape& shape) {
  const float one = 1;
  const auto row = [&](const void* base, int64_t first, int64_t width) {
    return static_cast<const std::byte*>(base) + first * width * bytes_of(type);
  };
  for (const Block& block : read_blocks(shape, "GroupedLinearBackwardWeight"))
    check(cublasGemmEx(device_.blas(), CUBLAS_OP_N, CUBLAS_OP_T, shape.inputs, shape.outputs, block.rows, &one,
                       row(x, block.first, shape.inputs), type, shape.inputs, row(dy, block.first, shape.outputs), type,
                       shape.outputs, &one, dweight + static_cast<int64_t>(block.expert) * shape.inputs * shape.outputs,
                       CUDA_R_32F, shape.inputs, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "GroupedLinearBackwardWeight");
}

}  // namespace strand
