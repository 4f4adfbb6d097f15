#include "gpu_emulation/random_order.h"

#include <cstdlib>
#include <string_view>

namespace gpu_emulation {

namespace {
uint64_t state_of(uint64_t seed) {
  const uint64_t state = seed * 2685821657736338717u + 1442695040888963407u;
  return state == 0 ? 1 : state;
}

uint64_t state = [] {
  const char* seed = std::getenv("GPU_EMULATION_SEED");
  return state_of(seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10));
}();

Order order = [] {
  const char* name = std::getenv("GPU_EMULATION_ORDER");
  const std::string_view given = name == nullptr ? "random" : name;
  return given == "first_to_last"   ? Order::first_to_last
         : given == "last_to_first" ? Order::last_to_first
                                    : Order::random;
}();
}  // namespace

Order current_order() {
  return order;
}

uint64_t random_bits() {  // xorshift64 (Marsaglia 2003)
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

void set_order(Order new_order, uint64_t seed) {
  order = new_order;
  state = state_of(seed);
}

}  // namespace gpu_emulation
