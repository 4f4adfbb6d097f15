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

}  // namespace gpu_emulation
