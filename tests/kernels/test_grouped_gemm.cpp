// Products of experts' row blocks on the CUDA backend, by its own kernels and by cuBLAS: sizes around the tiles of 128
// and of 64 outputs and the slices of 32 terms that those kernels work in, and more experts than a warp has lanes.
#include <algorithm>
#include <limits>

#include "harness.h"
#include "kernels/cuda/backend.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
struct Case {
  const char* name;
  std::vector<int64_t> rows;  ///< of each expert
  int64_t in, out;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = [] {
    std::vector<Case> list = {
        {"one tile and a little more in each direction", {130, 0, 5}, 136, 144},
        {"whole tiles", {128}, 128, 128},
        {"one slice less, as many and one more than are fetched ahead", {17, 40}, 96, 24},
        {"as many slices as stages", {33, 0, 128}, 128, 8},
        {"widths that are no multiple of 8", {131, 3}, 131, 133},
        {"inputs alone are a multiple of 8", {20, 9}, 40, 129},
        {"outputs alone are a multiple of 8", {20, 9}, 129, 40},
    };
    Case many{"more experts than lanes", {}, 16, 24};
    for (int64_t e = 0; e < 70; ++e) many.rows.push_back(e % 5 == 0 ? 0 : e == 33 ? 140 : e % 7);
    list.push_back(many);
    return list;
  }();
  return all;
}

/// The backend by each of the ways to compute grouped products.
const std::vector<Backend>& ways() {
  backends();  // ends the program where there is no GPU
  static const std::vector<Backend> all = [] {
    std::vector<Backend> list;
    for (const GroupedGemm way : {GroupedGemm::device, GroupedGemm::cublas}) {
      // Not destroyed: an emulated stream must not outlive main().
      Device& device = *make_cuda_device({.grouped_gemm = way}).release();
      Ops* ops = device.make_ops().release();
      const std::string name = way == GroupedGemm::cublas ? "cublas " : "device ";
      list.push_back({name + "f32", ops, DType::f32});
      list.push_back({name + "bf16", ops, DType::bf16});
    }
    return list;
  }();
  return all;
}

struct Blocks {
  Ids offsets{0};
  int64_t capacity = 0;
  Values rows(Stage& s, const char* name, int64_t width) const {
    Values values = s.read(s.act(name, {capacity, width}));
    const auto used = static_cast<size_t>(offsets.back() * width);
    std::fill(values.begin() + static_cast<std::ptrdiff_t>(used), values.end(),
              std::numeric_limits<double>::quiet_NaN());
    return values;
  }
};

/// Blocks begin at any row: the kernels take every alignment.
void for_each_case(const std::function<void(Stage&, const Case&, const Blocks&, const Tensor& offsets)>& body) {
  for (const Case& c : cases()) {
    for (const Backend& backend : ways()) {
      INFO(c.name);
      compare(backend, [&](Stage& s) {
        Blocks blocks;
        for (int64_t n : c.rows) blocks.offsets.push_back(blocks.offsets.back() + static_cast<int32_t>(n));
        blocks.capacity = blocks.offsets.back() + 3;
        body(s, c, blocks, s.ids_of({static_cast<int64_t>(blocks.offsets.size())}, blocks.offsets));
      });
    }
  }
}
}  // namespace

// Rows behind the last block start as NaN, in inputs and outputs, and must be neither read nor written.
TEST_CASE("grouped products forward and backward to the input") {
  for_each_case([](Stage& s, const Case& c, const Blocks& blocks, const Tensor& offsets) {
    const Tensor weight = s.act("w", {static_cast<int64_t>(c.rows.size()), c.out, c.in});
    const Tensor y = s.act_out({blocks.capacity, c.out}), dx = s.act_out({blocks.capacity, c.in});
    s.run(GroupedLinear{.x = s.act_of({blocks.capacity, c.in}, blocks.rows(s, "x", c.in)),
                        .weight = weight,
                        .offsets = offsets,
                        .y = y});
    s.run(GroupedLinearBackwardInput{.dy = s.act_of({blocks.capacity, c.out}, blocks.rows(s, "dy", c.out)),
                                     .weight = weight,
                                     .offsets = offsets,
                                     .dx = dx});
    s.report("y", y, {.terms = c.in});
    s.report("dx", dx, {.terms = c.out});
  });
}

TEST_CASE("grouped products backward to the weights") {
  for_each_case([](Stage& s, const Case& c, const Blocks& blocks, const Tensor& offsets) {
    const Tensor dw = s.acc("dw before", {static_cast<int64_t>(c.rows.size()), c.out, c.in});
    s.run(GroupedLinearBackwardWeight{.dy = s.act_of({blocks.capacity, c.out}, blocks.rows(s, "dy", c.out)),
                                      .x = s.act_of({blocks.capacity, c.in}, blocks.rows(s, "x", c.in)),
                                      .offsets = offsets,
                                      .dweight = dw});
    s.report("dw", dw, {.terms = *std::max_element(c.rows.begin(), c.rows.end()) + 1});
  });
}
