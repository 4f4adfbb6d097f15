#include "model/dispatcher.h"

namespace strand {

std::unique_ptr<Dispatcher> make_dispatcher(const ProcessGrid& grid, Device& device, int64_t experts) {
  return grid.expert_parallel() == 1 ? make_local_dispatcher() : make_spread_dispatcher(device, experts);
}

}  // namespace strand
