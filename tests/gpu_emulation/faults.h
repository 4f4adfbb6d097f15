#pragma once
// Faults of memory: a kernel's becomes cudaErrorIllegalAddress, as on a GPU; the host's ends the program with a line
// that says what it touched.

namespace gpu_emulation {

/// From now on, faults are looked into. (AddressSanitizer has its own way.)
void catch_faults();

}  // namespace gpu_emulation
