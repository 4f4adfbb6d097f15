#pragma once
// What the checker remembers of memory: a cell for every two bytes, with the last write and the last reads.
#include <cstdint>

namespace gpu_emulation {

/// Who else than `thread` has read since the last write, as far as it has to be known.
enum class Readers : uint8_t { one, of_one_warp, of_one_block, of_several_blocks };

struct AccessRecord {
  uint32_t operation = 0;  ///< of a stream; 0 = there was none
  uint32_t block = 0;      ///< its number in the grid
  uint32_t serial = 0;     ///< counts all blocks ever
  uint32_t epoch = 0;      ///< __syncthreads()s of the block before it
  uint16_t thread = 0;
  uint16_t warp_epoch = 0;  ///< __syncwarp()s of the warp before it
  Readers readers = Readers::one;
  uint8_t bytes = 0;  ///< bit 0: the even byte, bit 1: the odd one
  bool atomic = false;
};

struct Cell {
  AccessRecord write, read;
  uint8_t initialised = 0;  ///< bits as AccessRecord::bytes
  bool pending = false;     ///< an unfinished cp.async fills it
};

/// The cell of an address; made at its first use.
Cell& cell_of(uintptr_t address);

}  // namespace gpu_emulation
