#pragma once
// The emulation's side of kernels/cuda/ptx.cuh.
#include "gpu_emulation/kernel_language.h"

namespace gpu_emulation {

inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const float (&c)[4],
                              GPU_EMULATION_SITE) {
  mma_m16n8k16_bf16(&d[0], &a[0], &b[0], &c[0], GPU_EMULATION_HERE);
}
inline void ldmatrix_x4(unsigned (&r)[4], const void* row, GPU_EMULATION_SITE) {
  ldmatrix_x4(&r[0], row, false, GPU_EMULATION_HERE);
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* row, GPU_EMULATION_SITE) {
  ldmatrix_x4(&r[0], row, true, GPU_EMULATION_HERE);
}
inline void cp_async16(void* shared, const void* global, bool valid, GPU_EMULATION_SITE) {
  cp_async(shared, global, 16, valid ? 16 : 0, GPU_EMULATION_HERE);
}
template <int pending>
inline void cp_async_wait() {
  cp_async_wait(pending);
}

}  // namespace gpu_emulation
