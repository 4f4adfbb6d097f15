// Matrix products, dense and grouped by expert.
#include <algorithm>
#include <limits>

#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
struct Product {
  int64_t tokens, in, out;
};
// Sizes of one, sizes that are no multiple of any vector or block, and one that spans several blocks.
const std::vector<Product> products = [] {
  std::vector<Product> all = {{1, 1, 1},   {5, 7, 3},   {16, 32, 48}, {37, 48, 33},
                              {33, 1, 17}, {2, 130, 1}, {130, 96, 80}};
  // From two slices on, the gradient of a weight is computed slice by slice.
  for (int64_t outputs : around(2 * block_sizes::weight_slice)) all.push_back({3, 5, outputs});
  for (int64_t outputs : around(block_sizes::weight_slice_multiple))
    all.push_back({3, 2, 2 * block_sizes::weight_slice + 2 * outputs});
  // Each side is about as long as the blocks in which bf16 products are emulated, or longer.
  for (const int64_t side : around(block_sizes::widened_block)) {
    all.push_back({side, 3, 5});
    all.push_back({3, side, 5});
    all.push_back({3, 5, side});
  }
  all.push_back({530, 520, 515});
  return all;
}();

enum class OutputType { act, acc };
Tensor out(Stage& s, OutputType type, const Shape& shape) {
  return type == OutputType::act ? s.act_out(shape) : s.acc_out(shape);
}
Tensor filled(Stage& s, OutputType type, const Shape& shape) {
  return type == OutputType::act ? s.act("before", shape) : s.acc("before", shape);
}
}  // namespace

TEST_CASE("Linear: y = x W^T in act and in acc") {
  for (const auto& [T, I, O] : products) {
    for (OutputType type : {OutputType::act, OutputType::acc}) {
      INFO("T " << T << " I " << I << " O " << O << " output " << int(type));
      compare_all([&](Stage& s) {
        const Tensor y = out(s, type, {T, O});
        s.run(Linear{.x = s.act("x", {T, I}), .weight = s.act("w", {O, I}), .y = y});
        s.report("y", y, {.terms = I}, Bits::same_on_as_many_threads);
      });
    }
  }
}

TEST_CASE("LinearBackwardInput: dx = dy W, overwriting and accumulating") {
  for (const auto& [T, I, O] : products) {
    for (OutputType type : {OutputType::act, OutputType::acc}) {
      for (Write write : {Write::overwrite, Write::accumulate}) {
        INFO("T " << T << " I " << I << " O " << O << " output " << int(type) << " write " << int(write));
        compare_all([&](Stage& s) {
          const Tensor dx = write == Write::overwrite ? out(s, type, {T, I}) : filled(s, type, {T, I});
          s.run(LinearBackwardInput{.dy = s.act("dy", {T, O}), .weight = s.act("w", {O, I}), .dx = dx, .write = write});
          // An accumulating product may round the product before it adds, when the output is act.
          const bool rounds_twice = type == OutputType::act && write == Write::accumulate;
          s.report("dx", dx, {.terms = O, .roundings = rounds_twice ? 1 : 0}, Bits::same_on_as_many_threads);
        });
      }
    }
  }
}

TEST_CASE("LinearBackwardWeight: dW += dy^T x") {
  for (const auto& [T, I, O] : products) {
    INFO("T " << T << " I " << I << " O " << O);
    compare_all([&](Stage& s) {
      const Tensor dw = s.acc("dw before", {O, I});
      s.run(LinearBackwardWeight{.dy = s.act("dy", {T, O}), .x = s.act("x", {T, I}), .dweight = dw});
      s.report("dw", dw, {.terms = T}, Bits::same_on_as_many_threads);
    });
  }
}

namespace {
struct Grouping {
  const char* name;
  std::vector<int64_t> rows;  ///< of each expert
  int64_t in, out;
};
const std::vector<Grouping> groupings = [] {
  std::vector<Grouping> all = {
      {"one expert", {19}, 7, 5},
      {"experts without rows", {0, 3, 0, 0, 21, 0}, 12, 9},
      {"no rows at all", {0, 0, 0}, 8, 8},
      {"one row each", {1, 1, 1, 1}, 33, 17},
      {"uneven", {40, 2, 17, 5, 1, 16, 0, 31}, 48, 40},
  };
  for (int64_t limit : {block_sizes::expert_rows_least, block_sizes::expert_rows_most, block_sizes::expert_sum_rows}) {
    for (int64_t rows : around(limit)) all.push_back({"blocks of rows", {3, rows, 20}, 5, 3});
  }
  // One expert with more rows than its share has its outputs cut into 2, 4 and 8 pieces.
  for (int64_t pieces = 2; pieces <= block_sizes::expert_output_pieces; pieces *= 2) {
    for (int64_t outputs : around(pieces * block_sizes::expert_outputs_least))
      all.push_back({"pieces of outputs", {5, 96}, 3, outputs});
  }
  return all;
}();

/// The row blocks of a grouping at the alignment of a stage.
struct Blocks {
  Ids offsets{0};
  std::vector<bool> padding;  ///< of each row in use
  int64_t capacity = 0;       ///< R: more rows than are in use

  Blocks(const Grouping& g, int64_t alignment) {
    for (int64_t n : g.rows) {
      for (int64_t i = 0; i < n; ++i) padding.push_back(false);
      while (static_cast<int64_t>(padding.size()) % alignment != 0) padding.push_back(true);
      offsets.push_back(static_cast<int32_t>(padding.size()));
    }
    capacity = used() + 3 * alignment;
  }
  int64_t used() const { return static_cast<int64_t>(padding.size()); }
};

/// Rows in use hold normal numbers, padding rows zeros, and the rows behind them NaN: nobody may read those.
Tensor rows_input(Stage& s, const char* name, const Blocks& blocks, int64_t width) {
  Values values = s.read(s.act(name, {blocks.capacity, width}));
  for (int64_t r = 0; r < blocks.capacity; ++r) {
    for (int64_t i = 0; i < width; ++i) {
      double& v = values[static_cast<size_t>(r * width + i)];
      if (r >= blocks.used())
        v = std::numeric_limits<double>::quiet_NaN();
      else if (blocks.padding[static_cast<size_t>(r)])
        v = 0;
    }
  }
  return s.act_of({blocks.capacity, width}, values);
}

void for_each_grouping(const std::function<void(Stage&, const Grouping&, const Blocks&, const Tensor& offsets)>& body) {
  for (const Grouping& g : groupings) {
    for (int64_t alignment : {16, 48}) {
      INFO(g.name << ", row alignment " << alignment);
      compare_all(
          [&](Stage& s) {
            const Blocks blocks(g, s.alignment());
            body(s, g, blocks, s.ids_of({static_cast<int64_t>(blocks.offsets.size())}, blocks.offsets));
          },
          alignment);
    }
  }
}
}  // namespace

// Whole buffers are compared: outputs start as NaN on every stage, and rows behind the last block must still be.
TEST_CASE("GroupedLinear: y = W_e x over the rows of each expert") {
  for_each_grouping([](Stage& s, const Grouping& g, const Blocks& blocks, const Tensor& offsets) {
    const auto E = static_cast<int64_t>(g.rows.size());
    const Tensor y = s.act_out({blocks.capacity, g.out});
    s.run(GroupedLinear{
        .x = rows_input(s, "x", blocks, g.in), .weight = s.act("w", {E, g.out, g.in}), .offsets = offsets, .y = y});
    s.report("y", y, {.terms = g.in}, Bits::same_on_as_many_threads);
  });
}

TEST_CASE("GroupedLinearBackwardInput: dx = W_e^T dy over the rows of each expert") {
  for_each_grouping([](Stage& s, const Grouping& g, const Blocks& blocks, const Tensor& offsets) {
    const auto E = static_cast<int64_t>(g.rows.size());
    const Tensor dx = s.act_out({blocks.capacity, g.in});
    s.run(GroupedLinearBackwardInput{.dy = rows_input(s, "dy", blocks, g.out),
                                     .weight = s.act("w", {E, g.out, g.in}),
                                     .offsets = offsets,
                                     .dx = dx});
    s.report("dx", dx, {.terms = g.out}, Bits::same_on_as_many_threads);
  });
}

TEST_CASE("GroupedLinearBackwardWeight: dW_e += dy^T x; an expert without rows keeps its dW") {
  for_each_grouping([](Stage& s, const Grouping& g, const Blocks& blocks, const Tensor& offsets) {
    const auto E = static_cast<int64_t>(g.rows.size());
    const Tensor dw = s.acc("dw before", {E, g.out, g.in});
    s.run(GroupedLinearBackwardWeight{.dy = rows_input(s, "dy", blocks, g.out),
                                      .x = rows_input(s, "x", blocks, g.in),
                                      .offsets = offsets,
                                      .dweight = dw});
    s.report("dw", dw, {.terms = *std::max_element(g.rows.begin(), g.rows.end()) + 1}, Bits::same_on_as_many_threads);
  });
}

TEST_CASE("GroupedLinear and its backwards over buffers of no rows: nothing is written") {
  compare_all([](Stage& s) {
    const int64_t E = 2, I = 5, O = 3;
    const Tensor x = s.act_out({0, I}), y = s.act_out({0, O}), weight = s.act("w", {E, O, I});
    const Tensor offsets = s.ids_of({E + 1}, {0, 0, 0}), dweight = s.acc("dw before", {E, O, I});
    s.run(GroupedLinear{.x = x, .weight = weight, .offsets = offsets, .y = y});
    s.run(GroupedLinearBackwardInput{.dy = y, .weight = weight, .offsets = offsets, .dx = x});
    s.run(GroupedLinearBackwardWeight{.dy = y, .x = x, .offsets = offsets, .dweight = dweight});
    s.report("dweight", dweight);
  });
}
