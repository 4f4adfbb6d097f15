// Warp-wide PTX instructions: the last lane to arrive computes the result for all 32 from every lane's fragment.
#include "gpu_emulation/internal.h"
namespace gpu_emulation {
static float bf(unsigned short h) {
  unsigned u = (unsigned)h << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}
struct Mma {
  float* d;
  const unsigned* a;
  const unsigned* b;
  const float* c;
};
static void mma_all(void** lanes, unsigned mask) {
  if (mask != 0xffffffffu) {
    report("mma-partial-warp", "mma.sync needs all 32 lanes, mask %08x", mask);
    return;
  }
  float A[16][16], B[16][8], D[16][8];
  for (int l = 0; l < 32; ++l) {
    const Mma& m = *(const Mma*)lanes[l];
    int g = l >> 2, t = l & 3;
    for (int i = 0; i < 4; ++i)
      for (int h = 0; h < 2; ++h)  // a0,a2: row g; a1,a3: row g+8; a2,a3: k+8; low half is the lower k
        A[g + (i & 1) * 8][t * 2 + h + (i >> 1) * 8] = bf((unsigned short)(m.a[i] >> (16 * h)));
    for (int i = 0; i < 2; ++i)
      for (int h = 0; h < 2; ++h) B[t * 2 + h + i * 8][g] = bf((unsigned short)(m.b[i] >> (16 * h)));
    for (int i = 0; i < 4; ++i) D[g + (i >> 1) * 8][t * 2 + (i & 1)] = m.c[i];
  }
  for (int r = 0; r < 16; ++r)
    for (int n = 0; n < 8; ++n) {
      float s = D[r][n];
      for (int k = 0; k < 16; ++k) s += A[r][k] * B[k][n];
      D[r][n] = s;
    }
  for (int l = 0; l < 32; ++l) {
    const Mma& m = *(const Mma*)lanes[l];
    int g = l >> 2, t = l & 3;
    for (int i = 0; i < 4; ++i) m.d[i] = D[g + (i >> 1) * 8][t * 2 + (i & 1)];
  }
}
void mma_m16n8k16_bf16(float* d, const unsigned* a, const unsigned* b, const float* c, const char* f, int l) {
  Mma m{d, a, b, c};
  warp_collective(WarpOp::mma, 0xffffffffu, &m, mma_all, f, l);
}
struct Ldm {
  unsigned* r;
  const void* row;
  bool trans;
  const char* f;
  int l;
};
static void ldmatrix_all(void** lanes, unsigned mask) {
  if (mask != 0xffffffffu) {
    report("mma-partial-warp", "ldmatrix needs all 32 lanes, mask %08x", mask);
    return;
  }
  for (int j = 0; j < 4; ++j)
    for (int l = 0; l < 32; ++l) {
      const Ldm& me = *(const Ldm*)lanes[l];
      unsigned short h[2];
      for (int e = 0; e < 2; ++e) {
        int row = me.trans ? (l & 3) * 2 + e : l >> 2, col = me.trans ? l >> 2 : (l & 3) * 2 + e;
        h[e] = ((const unsigned short*)((const Ldm*)lanes[j * 8 + row])->row)[col];
      }
      me.r[j] = h[0] | (unsigned)h[1] << 16;
    }
}
void ldmatrix_x4(unsigned* r, const void* row, bool trans, const char* f, int l) {
  if ((uintptr_t)row % 16) report("misaligned", "ldmatrix row address %p at %s:%d", row, f, l);
  if ((char*)row >= smem_base && (char*)row < smem_base + (1 << 20) ? (char*)row + 16 > smem_base + smem_bytes
                                                                    : false) {
    report("out-of-bounds", "ldmatrix past dynamic shared memory at %s:%d", f, l);
    abort_block();
  }
  check_access(row, 16, false, f, l);  // the row this lane points at
  Ldm m{r, row, trans, f, l};
  warp_collective(WarpOp::ldmatrix, 0xffffffffu, &m, ldmatrix_all, f, l);
}
}  // namespace gpu_emulation
