#pragma once
// How tests steer the emulation, and what it reports.
#include <cstdint>
#include <string>
#include <vector>

namespace gpu_emulation {

/// In which order the threads of a block, and the blocks of a grid, get to run.
enum class Order : uint8_t { first_to_last, last_to_first, random };

/// From the next launch on. `seed` decides random orders, of threads, blocks and streams.
void set_order(Order order, uint64_t seed);

/// A fault that the emulation has seen.
struct Report {
  std::string kind;  ///< "race", "out-of-bounds", "divergent-barrier", ...
  std::string text;
};
/// The reports since the last call.
std::vector<Report> take_reports();

/// What the program has asked of the CUDA runtime since its start.
struct Counters {
  uint64_t allocations = 0;       ///< cudaMalloc and the like, device memory and pinned memory
  uint64_t frees = 0;             ///< their opposites
  uint64_t synchronizations = 0;  ///< calls that wait: of a device, a stream, an event, or a copy with pageable memory
  uint64_t launches = 0;          ///< of kernels, replays of graphs not counted
  uint64_t graph_instantiations = 0;
  uint64_t graph_launches = 0;
};
Counters counters();

/// A fault that is to happen from now on, as GPU_EMULATION_FAULT names one (device_memory.h).
void order_fault(const std::string& text);

}  // namespace gpu_emulation
