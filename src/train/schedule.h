#pragma once
// Learning-rate schedules (docs/mathematics.md, section 4). They are pure functions of the step.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "config/config.h"

namespace strand {

/// The learning rate of step `i` (from 0) of `steps`: linear warm-up over max(warmup_steps, 1) steps, whose first is
/// never 0, then the schedule's shape, whose last step is exactly min_lr (except `constant`).
inline double learning_rate(const OptimizerConfig& o, const ScheduleConfig& s, int64_t steps, int64_t i) {
  const int64_t warmup = std::max<int64_t>(s.warmup_steps, 1);
  if (i < warmup) return o.lr * static_cast<double>(i + 1) / static_cast<double>(warmup);
  if (i >= steps - 1 && s.kind != ScheduleKind::constant) return o.min_lr;
  const double u = static_cast<double>(i - (warmup - 1)) / static_cast<double>(steps - 1 - (warmup - 1));
  switch (s.kind) {
    case ScheduleKind::constant:
      return o.lr;
    case ScheduleKind::linear:
      return o.lr + (o.min_lr - o.lr) * u;
    case ScheduleKind::cosine:
      return o.min_lr + (o.lr - o.min_lr) * (1.0 + std::cos(std::numbers::pi * u)) / 2.0;
    case ScheduleKind::wsd: {
      const int64_t start = steps - 1 - s.decay_steps;  // the last step at the full rate
      if (i <= start) return o.lr;
      return o.lr + (o.min_lr - o.lr) * static_cast<double>(i - start) / static_cast<double>(s.decay_steps);
    }
  }
  return o.lr;
}

}  // namespace strand
