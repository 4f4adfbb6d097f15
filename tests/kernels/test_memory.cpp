// Memory of backends, and the operations that only move numbers. What they do is exact, so expectations are exact.
#include <bit>
#include <cmath>
#include <limits>

#include "core/arena.h"
#include "core/error.h"
#include "harness.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

TEST_CASE("allocate gives memory aligned for every tensor") {
  for (const Backend& backend : backends()) {
    for (size_t bytes : {1, 63, 64, 1000}) {
      void* memory = backend.ops->device().allocate(MemoryKind::device, bytes);
      CHECK(reinterpret_cast<uintptr_t>(memory) % Arena::alignment == 0);
      backend.ops->device().deallocate(MemoryKind::device, memory);
    }
    CHECK_THROWS_AS(backend.ops->device().allocate(MemoryKind::device, size_t{1} << 60), Error);
  }
  CHECK_THROWS_AS(reference_ops().device().allocate(MemoryKind::device, size_t{1} << 60), Error);
}

TEST_CASE("Zero and Copy: any type") {
  for (const Backend& backend : backends()) {
    INFO(backend.name);
    Stage s(*backend.ops, backend.act, backend.act, 1);
    for (const Tensor& x : {s.act("x", {3, 7}), s.acc("x", {130}), s.ids_of({5}, {1, -2, 3, -4, 5}), s.scalar()}) {
      const Tensor to{s.acc_out({200}).data, x.dtype, x.shape};
      s.run(Copy{.from = x, .to = to});
      CHECK(s.read(to) == s.read(x));
      s.run(Zero{.x = x});
      CHECK(s.read(x) == Values(static_cast<size_t>(x.elements()), 0.0));
    }
    CHECK(s.broken_guard() == "");
  }
}

TEST_CASE("Cast: rounds to nearest even, keeps infinities and NaN, widens exactly") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  // 1 + 2⁻⁸ and 1 + 3·2⁻⁸ are ties between neighbours in bf16; 3.4e38 rounds up to infinity in bf16; 1e-40 is
  // subnormal.
  Values values = {0, -0.0, 1, 1 + 0x1p-8, 1 + 0x3p-8, -(1 + 0x1p-8), 1 + 0x1.8p-8, 3.4e38, 1e-40, inf, -inf, nan, 0.1};
  for (int i = 0; i < 100; ++i) values.push_back(std::sin(i) * std::pow(2.0, i - 50));
  const Shape shape{static_cast<int64_t>(values.size())};
  for (const Backend& backend : backends()) {
    INFO(backend.name);
    Stage s(*backend.ops, backend.act, backend.act, 1);
    const Tensor acc = s.acc_of(shape, values), act = s.act_out(shape), back = s.acc_out(shape);
    s.run(Cast{.from = acc, .to = act});
    s.run(Cast{.from = act, .to = back});
    const Values rounded = s.read(act), widened = s.read(back);
    for (size_t i = 0; i < values.size(); ++i) {
      const double expected = round_to(backend.act, values[i]);
      INFO(values[i]);
      const bool same = std::isnan(expected) ? std::isnan(rounded[i]) && std::isnan(widened[i])
                                             : rounded[i] == expected && widened[i] == expected &&
                                                   std::signbit(rounded[i]) == std::signbit(expected);
      CHECK(same);
    }
    CHECK(s.broken_guard() == "");
  }
}
