#include "train/step_parts.h"

#include <algorithm>

#include "core/clock.h"

namespace strand {

void StepClock::begin() {
  if (!runs_) return;
  parts_ = {};
  last_waited_ = waited();
  last_ = now();
}

void StepClock::mark(StepPart part) {
  if (!runs_) return;
  const double here = now(), waited_here = waited();
  const double passed = here - last_, exchange = std::clamp(waited_here - last_waited_, 0.0, passed);
  parts_[static_cast<size_t>(StepPart::exchange)] += exchange;
  parts_[static_cast<size_t>(part)] += passed - exchange;
  last_ = here;
  last_waited_ = waited_here;
}

}  // namespace strand
