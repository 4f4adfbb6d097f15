#pragma once
// Faults that the emulation has seen, kept until a test takes them (control.h) or the program ends.
#include "gpu_emulation/control.h"

namespace gpu_emulation {

/// Keeps a report of `kind`, with the operation in which it was seen. Of one kind at most a few dozen are kept.
__attribute__((format(printf, 2, 3))) void report(const char* kind, const char* format, ...);

/// What now executes, for reports: the name of a stream's operation, or "host code".
const char* current_operation_name();

}  // namespace gpu_emulation
