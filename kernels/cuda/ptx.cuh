#pragma once
// The few PTX instructions that kernels use beyond CUDA C++: tensor cores and asynchronous copies. All of them are in
// sm_80 and later. (PTX ISA 8.x: "Matrix Fragments for mma.m16n8k16 with floating point type", "ldmatrix", "cp.async".)
//
// Fragments of mma_m16n8k16_bf16 for D[16, 8] = A[16, 16] B[16, 8] + C, with group = lane / 4 and pair = 2 (lane % 4):
//   a[0] = A[group    ][pair, pair + 1]      a[2] = A[group    ][pair + 8, pair + 9]
//   a[1] = A[group + 8][pair, pair + 1]      a[3] = A[group + 8][pair + 8, pair + 9]
//   b[0] = B[pair, pair + 1][group]          b[1] = B[pair + 8, pair + 9][group]
//   c[0], c[1] = C[group][pair, pair + 1]    c[2], c[3] = C[group + 8][pair, pair + 1]
// A register holds two bf16, the one with the lower index in its lower half.
#include "kernels/cuda/gpu.cuh"

#if defined(__CUDACC__)

namespace strand::ptx {

/// The address of shared memory as PTX counts it.
__device__ inline unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

/// d = a b + c, products exact, sums in fp32. All 32 lanes of the warp call it. d may be c.
__device__ inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                         const float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

/// Loads four 8×8 matrices of 16-bit elements from shared memory. `row` of lane 8 i + r is the address (a multiple of
/// 16) of row r of matrix i; r[i] of a lane becomes the elements [lane / 4][2 (lane % 4), + 1] of matrix i.
__device__ inline void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// The same of the transposed matrices: r[i] becomes the elements [2 (lane % 4), + 1][lane / 4] of matrix i.
__device__ inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Begins to copy 16 bytes from global to shared memory, or to write 16 bytes of zeros there when `valid` is false
/// (global is then not read, but must be a valid address). Both addresses are multiples of 16.
__device__ inline void cp_async16(void* shared, const void* global, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
}

/// Closes the group of copies that this thread began since the last commit.
__device__ inline void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most `pending` groups of this thread are unfinished. Other threads see the data after a barrier.
template <int pending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace strand::ptx

#else

#include <gpu_emulation/ptx.h>

namespace strand::ptx {
using ::gpu_emulation::cp_async16;
using ::gpu_emulation::cp_async_commit;
using ::gpu_emulation::cp_async_wait;
using ::gpu_emulation::ldmatrix_x4;
using ::gpu_emulation::ldmatrix_x4_trans;
using ::gpu_emulation::mma_m16n8k16_bf16;
}  // namespace strand::ptx

#endif
