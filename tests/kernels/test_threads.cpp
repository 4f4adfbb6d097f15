// The means by which the other tests see results that depend on threads.
#include <vector>

#include "harness.h"
#include "loop_order.h"
#include "tests/catch.h"

using namespace strand::test;

namespace {
/// The order in which one thread meets the iterations of a loop.
std::vector<int> order_of_a_loop() {
  std::vector<int> order;
#pragma omp parallel for schedule(dynamic) num_threads(1)
  for (int i = 3; i < 12; i += 2) order.push_back(i);
  return order;
}
std::vector<int> order_inside_a_region() {
  std::vector<int> order;
#pragma omp parallel num_threads(1)
  {
#pragma omp for schedule(dynamic, 2)
    for (int i = 0; i < 5; ++i) order.push_back(i);
  }
  return order;
}
}  // namespace

#if defined(__GNUC__) && !defined(__clang__)
TEST_CASE("Blocks of parallel loops can be handed out last first") {
  CHECK(order_of_a_loop() == std::vector<int>{3, 5, 7, 9, 11});
  CHECK(order_inside_a_region() == std::vector<int>{0, 1, 2, 3, 4});
  {
    const LastBlocksFirst reversed;
    CHECK(order_of_a_loop() == std::vector<int>{11, 9, 7, 5, 3});
    CHECK(order_inside_a_region() == std::vector<int>{3, 4, 1, 2, 0});
  }
  CHECK(order_of_a_loop() == std::vector<int>{3, 5, 7, 9, 11});
}
#endif
