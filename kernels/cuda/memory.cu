// The operations that only move numbers.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dispatch.cuh"

namespace strand {

using namespace gpu;

namespace {

constexpr int threads = 256;

template <typename From, typename To>
__global__ void __launch_bounds__(threads) cast_kernel(const From* __restrict__ from, To* __restrict__ to, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < n) to[i] = from_float<To>(to_float(from[i]));
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
  const int64_t n = op.from.elements();
  if (n == 0) return;
  dispatch_act(op.from.dtype, [&](auto from) {
    dispatch_act(op.to.dtype, [&](auto to) {
      using From = typename decltype(from)::type;
      using To = typename decltype(to)::type;
      GPU_LAUNCH((cast_kernel<From, To>), dim3(static_cast<unsigned>(ceil_div<int64_t>(n, threads))), dim3(threads), 0,
                 stream_, data<From>(op.from), data<To>(op.to), n);
    });
  });
}

}  // namespace strand
