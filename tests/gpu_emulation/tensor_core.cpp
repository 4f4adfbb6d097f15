// Layouts from the PTX ISA: "Matrix Fragments for mma.m16n8k16 with floating point type", and "ldmatrix". Products are
// exact and sums in fp32, in the order of k; tensor cores round in a way of their own.
#include "gpu_emulation/tensor_core.h"

#include <bit>
#include <cstdint>

#include "gpu_emulation/block.h"
#include "gpu_emulation/checker.h"
#include "gpu_emulation/reports.h"

namespace gpu_emulation {

namespace {
struct MmaFragments {
  float* d;
  const unsigned* a;
  const unsigned* b;
  const float* c;
};
struct LdmatrixFragments {
  unsigned* r;
  const void* row;
  Transposed transposed;
};

/// The lower (0) or upper (1) bf16 of a register.
float bf16_of(unsigned reg, int half) {
  return std::bit_cast<float>((reg >> (16 * half) & 0xffffu) << 16);
}

void mma_of_warp(void* const (&fragments)[32]) {
  float a[16][16], b[16][8], c[16][8];
  const auto of = [&](int lane) -> const MmaFragments& { return *static_cast<const MmaFragments*>(fragments[lane]); };
  for (int lane = 0; lane < 32; ++lane) {
    const MmaFragments& m = of(lane);
    const int group = lane / 4, pair = 2 * (lane % 4);
    for (int i = 0; i < 4; ++i)  // odd registers: 8 rows further; the upper two: 8 columns further
      for (int half = 0; half < 2; ++half) a[group + 8 * (i % 2)][pair + half + 8 * (i / 2)] = bf16_of(m.a[i], half);
    for (int i = 0; i < 2; ++i)
      for (int half = 0; half < 2; ++half) b[pair + half + 8 * i][group] = bf16_of(m.b[i], half);
    for (int i = 0; i < 4; ++i) c[group + 8 * (i / 2)][pair + i % 2] = m.c[i];
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) of(lane).d[i] = c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
}

void ldmatrix_of_warp(void* const (&fragments)[32]) {
  const auto of = [&](int lane) -> const LdmatrixFragments& {
    return *static_cast<const LdmatrixFragments*>(fragments[lane]);
  };
  const auto element = [&](int matrix, int row, int column) {
    return static_cast<unsigned>(static_cast<const uint16_t*>(of(8 * matrix + row).row)[column]);
  };
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, pair = 2 * (lane % 4);
    for (int matrix = 0; matrix < 4; ++matrix) {
      const bool turned = of(lane).transposed == Transposed::yes;
      const unsigned low = turned ? element(matrix, pair, group) : element(matrix, group, pair);
      const unsigned high = turned ? element(matrix, pair + 1, group) : element(matrix, group, pair + 1);
      of(lane).r[matrix] = low | high << 16;
    }
  }
}
}  // namespace

void compute_tensor_core(WarpKind kind, void* const (&fragments)[32], unsigned lanes) {
  if (lanes != 0xffffffffu) {
    report("tensor-core-partial-warp", "block %u: all 32 lanes are needed, and %08x are there", block.linear, lanes);
    abort_block();
  }
  if (kind == WarpKind::mma)
    mma_of_warp(fragments);
  else
    ldmatrix_of_warp(fragments);
}

void warp_mma_m16n8k16_bf16(float* d, const unsigned* a, const unsigned* b, const float* c, Site site) {
  MmaFragments fragments{d, a, b, c};
  tensor_core_operation(WarpKind::mma, &fragments, site);
}

void warp_ldmatrix_x4(unsigned* r, const void* row, Transposed transposed, Site site) {
  constexpr size_t row_bytes = 16;
  check_alignment(row, row_bytes, site);
  check_shared_range(row, row_bytes, "ldmatrix", site);
  check_access(row, row_bytes, Access::read, site);  // each lane answers for the row whose address it gives
  LdmatrixFragments fragments{r, row, transposed};
  tensor_core_operation(WarpKind::ldmatrix, &fragments, site);
}

}  // namespace gpu_emulation
