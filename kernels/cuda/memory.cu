// The operations that only move numbers.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/rows.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

// A thread owns N neighbouring elements: 16 bytes of bf16, 32 of f32, read and written once.
template <typename From, typename To, int N>
__global__ void __launch_bounds__(threads)
    cast_kernel(const From* __restrict__ from, To* __restrict__ to, int64_t count) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * N;
  if (i >= count) return;
  float values[N];
  load(from + i, values);
  store(to + i, values);
}

}  // namespace

void CudaOps::run(const Zero& op) {
  if (op.x.bytes() == 0) return;
  check(cudaMemsetAsync(op.x.data, 0, op.x.bytes(), stream_), "Zero");
}

void CudaOps::run(const Copy& op) {
  if (op.from.data == op.to.data || op.from.bytes() == 0) return;
  check(cudaMemcpyAsync(op.to.data, op.from.data, op.from.bytes(), cudaMemcpyDeviceToDevice, stream_), "Copy");
}

void CudaOps::run(const Cast& op) {
  const int64_t count = op.from.elements();
  if (count == 0) return;
  dispatch_act(op.from.dtype, [&](auto from) {
    dispatch_act(op.to.dtype, [&](auto to) {
      using From = typename decltype(from)::type;
      using To = typename decltype(to)::type;
      with_access<8>(count, {&op.from, &op.to}, [&](auto n) {
        constexpr int N = decltype(n)::value;
        GPU_LAUNCH((cast_kernel<From, To, N>), blocks(ceil_div<int64_t>(count / N, threads)), dim3(threads), 0, stream_,
                   data<From>(op.from), data<To>(op.to), count);
      });
    });
  });
}

}  // namespace strand
