#pragma once
// Which rows a block of a grouped product works on. Only the device knows where the rows of an expert begin, so grids
// have as many blocks as there could be tiles, and each block finds its own tile, or that there is none.
#include "kernels/cuda/gpu.cuh"
#include "kernels/cuda/reduce.cuh"

namespace strand::gpu {

struct RowTile {
  int expert;  ///< −1: no tile
  int first;   ///< its first row
  int rows;    ///< from there to the end of the expert: may be more than a tile
};

/// The most tiles of `tile_rows` rows that R rows of E experts can have, as every expert may end within a tile.
inline int most_row_tiles(int rows, int experts, int tile_rows) {
  return rows / tile_rows + (rows < experts ? rows : experts);
}

/// Tile number `tile` when the tiles of all experts are counted through. All 32 lanes of a warp call it and get the
/// same answer: lane i counts the tiles of experts i, 32 + i, … and a scan over the lanes adds them up.
template <int TILE_ROWS>
__device__ inline RowTile find_row_tile(const int* __restrict__ offsets, int experts, int tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  RowTile found{.expert = -1, .first = 0, .rows = 0};
  int before = 0;  // tiles of the experts before this round
  for (int round = 0; round < experts && found.expert < 0; round += 32) {
    const int expert = round + lane;
    const int first = expert < experts ? offsets[expert] : 0, behind = expert < experts ? offsets[expert + 1] : 0;
    const int tiles = ceil_div(behind - first, TILE_ROWS);
    int until = tiles;  // tiles of this round up to and with this expert
    for (int step = 1; step < 32; step *= 2) {
      const int other = __shfl_up_sync(all_lanes, until, step);
      if (lane >= step) until += other;
    }
    until += before;
    const unsigned reached = __ballot_sync(all_lanes, until > tile);
    const int owner = reached != 0 ? __ffs(static_cast<int>(reached)) - 1 : 31;
    const int tile_of_expert = tile - __shfl_sync(all_lanes, until - tiles, owner);
    found.first = __shfl_sync(all_lanes, first, owner) + tile_of_expert * TILE_ROWS;
    found.rows = __shfl_sync(all_lanes, behind, owner) - found.first;
    if (reached != 0) found.expert = round + owner;
    before = __shfl_sync(all_lanes, until, 31);
  }
  return found;
}

}  // namespace strand::gpu
