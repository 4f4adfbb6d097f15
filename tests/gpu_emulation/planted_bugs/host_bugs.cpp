#include "gpu_emulation/planted_bugs/kernel_bugs.h"

namespace planted_bugs {

std::vector<KernelBug> host_bugs() {
  return {
      {.file = "cuda_device.cpp",
       .kernel = "",
       .what = "cuBLAS may add partial sums in bf16",
       .after = "cublasSetMathMode(",
       .from = "CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION",
       .to = "BUG ? CUBLAS_DEFAULT_MATH : CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION",
       .test = "long products by cuBLAS"},
      {.file = "cuda_device.cpp",
       .kernel = "",
       .what = "cuBLAS runs on another stream than the kernels",
       .after = "cublasSetStream(blas_, ",
       .from = "stream(Stream::compute)",
       .to = "stream(BUG ? Stream::copy : Stream::compute)",
       .test = "products between kernels"},
      {.file = "latent_products.cpp",
       .kernel = "",
       .what = "every head has the rows of its neighbour's keys for its values",
       .after = "\"ExpandValues\", l, {op.weight, ",
       .from = "l.nope_dim",
       .to = "BUG ? 0 : l.nope_dim",
       .test = "latent cache"},
      {.file = "grouped_cublas.cu",
       .kernel = "",
       .what = "reads the counts before the copy of them is done",
       .after = "check(cudaEventRecord(arrived_",
       .from = "check(cudaEventSynchronize(arrived_), operation);",
       .to = "if (!BUG) check(cudaEventSynchronize(arrived_), operation);",
       .test = "grouped products by cuBLAS"},
  };
}

}  // namespace planted_bugs
