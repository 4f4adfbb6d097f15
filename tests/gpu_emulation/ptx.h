#pragma once
// The emulation's side of kernels/cuda/ptx.cuh, which says what each of these does.
#include "gpu_emulation/kernel_language.h"

namespace gpu_emulation {

inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const float (&c)[4],
                              Site site = Site::here(__builtin_FILE(), __builtin_LINE())) {
  warp_mma_m16n8k16_bf16(d, a, b, c, site);
}
inline void ldmatrix_x4(unsigned (&r)[4], const void* row, Site site = Site::here(__builtin_FILE(), __builtin_LINE())) {
  warp_ldmatrix_x4(r, row, Transposed::no, site);
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* row,
                              Site site = Site::here(__builtin_FILE(), __builtin_LINE())) {
  warp_ldmatrix_x4(r, row, Transposed::yes, site);
}
inline void cp_async16(void* shared, const void* global, bool valid,
                       Site site = Site::here(__builtin_FILE(), __builtin_LINE())) {
  async_copy(shared, global, 16, valid ? 16 : 0, site);
}
inline void cp_async_commit() {
  async_copy_commit();
}
template <int pending>
inline void cp_async_wait() {
  async_copy_wait(pending);
}

}  // namespace gpu_emulation
