// Operations that only move or sort rows, at sizes around the blocks they are cut into: what is expected is exact. And
// the products that a worker of oneDNN keeps. (Other operations meet the sizes of their blocks in their own tests.)
#include <algorithm>
#include <numeric>

#include "expert_cases.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

namespace {
/// 1, 2, 3, ...: as many elements, each unlike its neighbours in other blocks; all are numbers of bf16.
Values distinct(int64_t count) {
  Values values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(1 + i % 127 + (i / 1000) % 100);
  return values;
}
}  // namespace

TEST_CASE("Copy and Zero around their blocks") {
  for (int64_t bytes : around(block_sizes::copied_bytes)) {
    INFO(bytes << " bytes");
    compare_all([&](Stage& s) {
      const int64_t count = bytes / (s.input_type() == DType::bf16 ? 2 : 4);
      const Tensor from = s.act_of({count}, distinct(count)), to = s.act_out({count});
      s.run(Copy{.from = from, .to = to});
      s.report("copy", to);
      s.run(Zero{.x = from});
      s.report("zero", from);
    });
  }
  for (const Backend& backend : backends()) {  // single bytes
    for (int64_t bytes : around(block_sizes::copied_bytes)) {
      Stage s(*backend.ops, backend.act, backend.act, 1);
      const int64_t ids = (bytes + 3) / 4;
      const Tensor from = s.ids_of({ids}, Ids(static_cast<size_t>(ids), 0x01010101));
      const Tensor to = s.ids_of({ids}, Ids(static_cast<size_t>(ids), 0));
      const Shape shape{bytes};
      s.run(Copy{.from = {from.data, DType::u8, shape}, .to = {to.data, DType::u8, shape}});
      s.run(Zero{.x = {from.data, DType::u8, shape}});
      std::vector<uint8_t> copied(static_cast<size_t>(4 * ids)), cleared(copied.size());
      backend.ops->device().download(to, copied.data());
      backend.ops->device().download(from, cleared.data());
      INFO(bytes << " bytes");
      CHECK(std::count(copied.begin(), copied.end(), 1) == bytes);
      CHECK(std::count(cleared.begin(), cleared.end(), 0) == bytes);
    }
  }
}

TEST_CASE("Cast around its blocks") {
  for (int64_t count : around(block_sizes::cast_elements)) {
    INFO(count << " elements");
    compare_all([&](Stage& s) {
      const Tensor act = s.act_of({count}, distinct(count)), acc = s.acc_out({count}), back = s.act_out({count});
      s.run(Cast{.from = act, .to = acc});
      s.run(Cast{.from = acc, .to = back});
      s.report("acc", acc);
      s.report("back", back);
    });
  }
}

TEST_CASE("GatherRows around its blocks: rows by index, through a second index, and zeros") {
  for (int64_t bytes : around(block_sizes::gathered_bytes)) {
    INFO(bytes << " bytes");
    compare_all([&](Stage& s) {
      const int64_t width = 4, rows = bytes / (width * (s.input_type() == DType::bf16 ? 2 : 4)) + 1;
      const Tensor from = s.act_of({rows, width}, distinct(rows * width));
      Ids backwards(static_cast<size_t>(rows)), odd(backwards.size());
      for (size_t i = 0; i < odd.size(); ++i) {
        backwards[i] = static_cast<int32_t>(odd.size() - 1 - i);
        odd[i] = i % 3 == 1 ? -1 : static_cast<int32_t>(i);
      }
      const Tensor index = s.ids_of({rows}, backwards), via = s.ids_of({rows}, odd);
      s.report("by index", gather(s, from, index));
      s.report("via", gather(s, from, index, via));
    });
  }
}

// With 8192 slots a range and 8 threads, more slots than one thread's range.
TEST_CASE("SortSlots, DispatchRows and Swiglu around the blocks of slots and of padding") {
  std::vector<Size> cases;
  for (int64_t slots : around(block_sizes::sorted_slots)) cases.push_back({slots, 5, 1, 1});
  for (int64_t slots : around(2 * block_sizes::sorted_slots)) cases.push_back({(slots + 1) / 2, 5, 2, 1});
  for (int64_t rows : around(block_sizes::padding_rows)) cases.push_back({rows, 5, 1, 3});
  // So many experts of few tokens each that rows of padding lie in every block.
  for (int64_t rows : around(block_sizes::padding_rows)) cases.push_back({40, rows / 16, 1, 2});
  for (const Size& n : cases) {
    INFO("T " << n.tokens << " E " << n.experts << " K " << n.top_k);
    // One selection for all runs: drawing it takes longer than sorting.
    Ids selected;
    for (int64_t slot = 0; slot < n.tokens * n.top_k; ++slot)
      selected.push_back(static_cast<int32_t>((slot * 7 + slot / 11 + slot / 8191 * 3) % n.experts));
    compare_all([&](Stage& s) {
      const int64_t rows = n.tokens * n.top_k + n.experts * (s.alignment() - 1);
      const RowMap map{.row_of_slot = s.ids_out({n.tokens, n.top_k}),
                       .slot_of_row = s.ids_out({rows}),
                       .offsets = s.ids_out({n.experts + 1})};
      s.run(SortSlots{.selected = s.ids_of({n.tokens, n.top_k}, selected), .alignment = s.alignment(), .map = map});
      const auto used = static_cast<int64_t>(s.read(map.offsets).back());
      s.report("offsets", map.offsets);
      s.report("row_of_slot", map.row_of_slot);
      s.report("slot_of_row", map.slot_of_row.rows(0, used));
      const DispatchRows dispatch{.x = s.act_of({n.tokens, 2 * n.width}, distinct(n.tokens * 2 * n.width)),
                                  .map = map,
                                  .rows = s.act_out({rows, 2 * n.width})};
      s.run(dispatch);
      s.report("rows", dispatch.rows.rows(0, used));
      const Swiglu swiglu{.gate_up = dispatch.rows, .map = map, .z = s.act_out({rows, n.width})};
      s.run(swiglu);
      s.report("z", swiglu.z.rows(0, used), {.roundings = 1});
    });
  }
}

TEST_CASE("SortForExchange around the ranges of slots") {
  for (int64_t slots : around(2 * block_sizes::sorted_slots)) {
    const Size n{slots / 2, 3, 2, 1};
    INFO("T " << n.tokens);
    Ids selected;
    for (int64_t slot = 0; slot < n.tokens * n.top_k; ++slot)
      selected.push_back(static_cast<int32_t>((slot + slot / 2 + slot / 8191) % n.experts));
    compare_all([&](Stage& s) {
      const Home home = sort_at_home(s, n, selected, sample_of(s, 0.4));
      s.report("row_of_slot", home.map.row_of_slot);
      s.report("slot_of_row", home.map.slot_of_row);
      s.report("offsets", home.map.offsets);
      s.report("counts", home.counts);
      s.report("packed_of_slot", home.packed_of_slot);
    });
  }
}

// Many prompts of many lengths: the worker throws away the products it keeps, and goes on.
TEST_CASE("More shapes of products than are kept") {
  const Backend& backend = backends().front();
  constexpr int64_t widest = 48;
  static_assert(widest * widest > block_sizes::kept_products * 1.1);
  Stage s(*backend.ops, backend.act, backend.act, 1);
  const Tensor x = s.act_of({widest, 1}, distinct(widest)), weight = s.act_of({widest, 1}, distinct(widest));
  const Tensor y = s.act_out({widest, widest});
  int64_t wrong = 0;
  for (int64_t pass = 0; pass < 2; ++pass) {
    for (int64_t T = 1; T <= widest; ++T) {
      for (int64_t O = 1; O <= widest; ++O) {
        const Tensor part{y.data, y.dtype, {T, O}};
        s.run(Linear{.x = x.rows(0, T), .weight = weight.rows(0, O), .y = part});
        const Values values = s.read(part);
        wrong += values.back() != static_cast<double>(T * O);
        wrong += values[static_cast<size_t>(O - 1)] != static_cast<double>(O);
      }
      if (pass == 1 && T == 4) break;  // the first ones again, which were thrown away
    }
  }
  CHECK(wrong == 0);
}
