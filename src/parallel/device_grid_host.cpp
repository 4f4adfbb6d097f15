// move_to_device for programs without NCCL.
#include "core/error.h"
#include "parallel/device_grid.h"

namespace strand {

void move_to_device(ProcessGrid& grid, Device& device, const DeviceGridOptions&) {
  require(grid.ranks() == 1 || device.shares_host_memory(),
          "{} ranks on GPUs, but this program was built without NCCL, over which they talk: install NCCL 2.18 or later "
          "and build again",
          grid.ranks());
}

}  // namespace strand
