// Shapes, tensors and element types.
#include "tests/catch.h"
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"

namespace strand {
namespace {

TEST_CASE("Shapes know their rank, size and text") {
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.elements() == 1);
  CHECK(Shape{2, 3, 4}.elements() == 24);
  CHECK(Shape{2, 0}.elements() == 0);
  CHECK(Shape{16, 32}.to_string() == "[16, 32]");
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{2} == Shape{2, 1});
  CHECK_THROWS_AS((Shape{1, 2, 3, 4, 5}), Error);
}

TEST_CASE("Views and slices share the elements") {
  std::vector<float> memory(24);
  for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i);
  const Tensor t{memory.data(), DType::f32, {2, 3, 4}};
  CHECK(t.bytes() == 96);
  CHECK(t[1].shape == Shape{3, 4});
  CHECK(t[1].as<float>()[0] == 12.0f);
  CHECK(t[1][2].shape == Shape{4});
  CHECK(t[1][2].as<float>()[3] == 23.0f);
  CHECK(t.rows(1, 2).shape == Shape{1, 3, 4});
  CHECK(t.rows(1, 2).data == t[1].data);
  CHECK(t.view({6, 4}).rows(5, 6).as<float>()[0] == 20.0f);
  CHECK_THROWS_AS(t.view({5, 5}), Error);
  CHECK_THROWS_AS(t.as<double>(), Error);
  CHECK(t.to_string() == "f32 [2, 3, 4]");
  CHECK_FALSE(Tensor{});
  CHECK(Tensor{}.elements() == 0);
}

TEST_CASE("bfloat16 rounds to the nearest, ties to even") {
  const auto rounded = [](float v) { return static_cast<float>(bf16(v)); };
  for (float exact : {0.0f, -0.0f, 1.0f, -2.5f, 0x1.fep127f, 0x1p-133f}) {
    CHECK(rounded(exact) == exact);
    CHECK(std::signbit(rounded(exact)) == std::signbit(exact));
  }
  // 1 + n/128 are the neighbours of 1: halves go to the even one.
  CHECK(rounded(1.0f + 1.0f / 256) == 1.0f);
  CHECK(rounded(1.0f + 3.0f / 256) == 1.0f + 4.0f / 256);
  CHECK(rounded(std::nextafter(1.0f + 1.0f / 256, 2.0f)) == 1.0f + 1.0f / 128);
  CHECK(rounded(std::nextafter(1.0f + 3.0f / 256, 1.0f)) == 1.0f + 1.0f / 128);
  CHECK(rounded(std::numeric_limits<float>::max()) == INFINITY);
  CHECK(rounded(-INFINITY) == -INFINITY);
  CHECK(std::isnan(rounded(NAN)));
  CHECK(std::isnan(rounded(-std::numeric_limits<float>::signaling_NaN())));
}

}  // namespace
}  // namespace strand
