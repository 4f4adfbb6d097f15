#pragma once
// Where the time of a step goes. Marks are readings of a clock, so they are true where an operation has ended when its
// call returns: on the CPU. On a GPU the host runs ahead, and nothing is measured.
#include <array>
#include <cstdint>

#include "parallel/process_grid.h"

namespace strand {

enum class StepPart : uint8_t {
  forward,   ///< of the layers
  head,      ///< the logits, the loss, and the gradients of both
  backward,  ///< of the layers
  update,    ///< the zeroing of the gradients, their norm, the optimizer
  exchange,  ///< computing waited for messages; counts in no other part
};
constexpr size_t step_part_count = 5;
constexpr std::array<const char*, step_part_count> step_part_names = {"forward", "head", "backward", "update",
                                                                      "exchange"};

/// Seconds of each part on one rank.
using PartSeconds = std::array<double, step_part_count>;

class StepClock {
 public:
  enum class Use : uint8_t { runs, stands };
  StepClock(const ProcessGrid& grid, Use use) : grid_(grid), runs_(use == Use::runs) {}

  bool runs() const { return runs_; }
  /// A step begins.
  void begin();
  /// Books what has passed since the mark before.
  void mark(StepPart part);
  const PartSeconds& parts() const { return parts_; }

 private:
  double waited() const { return grid_.traffic().total().exposed_seconds; }

  const ProcessGrid& grid_;
  bool runs_;
  double last_ = 0, last_waited_ = 0;
  PartSeconds parts_{};
};

}  // namespace strand
