#pragma once
// The communicators of a grid, on the device where the tensors are.
#include <functional>

#include "kernels/device.h"
#include "parallel/process_grid.h"

namespace strand {

/// In which order a sum over ranks is taken on a GPU.
enum class SumOrder : uint8_t {
  of_library,  ///< NCCL's own: the same layout and the same NCCL give the same bits
  of_ranks,    ///< rank 0 first, as MPI on the CPU always does it
};

struct DeviceGridOptions {
  SumOrder order = SumOrder::of_library;
  /// A collective that is not complete after this many seconds ends all ranks.
  double watchdog_seconds = 600;
  /// Ends all ranks with an exit code, from any thread (Processes::abort).
  std::function<void(int)> end_all_ranks;
};

/// On a GPU, collectives of tensors go over NCCL from here on; the control channel stays what it is. The same call on
/// every rank. On other devices nothing changes. Throws Error when a program without NCCL has several
/// ranks on GPUs.
void move_to_device(ProcessGrid& grid, Device& device, const DeviceGridOptions& options);

}  // namespace strand
