#include "model/dispatcher.h"

namespace strand {

std::unique_ptr<Dispatcher> make_dispatcher(const ProcessGrid& grid) {
  return grid.expert_parallel() == 1 ? make_local_dispatcher() : make_spread_dispatcher();
}

}  // namespace strand
