#include <cublas_v2.h>

#include <concepts>
#include <vector>

template <std::floating_point T>
__global__ void add(T* x, T y) {
  x[threadIdx.x] += y;
}

int main() {
  cublasHandle_t handle = nullptr;
  const std::vector<float> values(32, 1.0F);
  float* x = nullptr;
  if (cudaMalloc(&x, values.size() * sizeof(float)) != cudaSuccess) return 1;
  add<<<1, 32>>>(x, 1.0F);
  return cublasCreate(&handle) == CUBLAS_STATUS_SUCCESS ? 0 : 1;
}
