#pragma once
// Sizes, selections and sorted rows for tests of the operations on expert rows, and the maps of expert parallelism.
#include <algorithm>
#include <limits>
#include <numeric>

#include "harness.h"
#include "kernels/cpu/block_sizes.h"
#include "tests/catch.h"

namespace strand::test {

struct Size {
  int64_t tokens, experts, top_k, width;
};
// One expert, all experts chosen, one chosen, experts that nobody selects, widths about the vector width, no token.
inline const std::vector<Size> sizes = [] {
  std::vector<Size> all = {{1, 1, 1, 1},    {5, 3, 3, 7},   {37, 8, 1, 16}, {3, 24, 2, 33},
                           {40, 16, 4, 48}, {67, 5, 2, 65}, {0, 4, 1, 16}};
  // Many choices a token: on the CUDA backend, rows of up to 2, 4, 8 and 16 are kept in registers, and above in shared
  // memory.
  for (const auto& [top_k, width] : {std::pair<int64_t, int64_t>{7, 24}, {8, 264}, {16, 40}, {17, 33}})
    all.push_back({3, top_k + 1, top_k, width});
  for (int64_t tokens : around(block_sizes::rows)) all.push_back({tokens, 3, 2, 5});
  for (int64_t width : around(64)) all.push_back({3, 3, 2, width});  // four vectors at a time
  return all;
}();

inline void for_each_case(const std::function<void(Stage&, const Size&)>& body) {
  for (const Size& size : sizes) {
    for (int64_t alignment : {16, 48}) {
      INFO("T " << size.tokens << " E " << size.experts << " K " << size.top_k << " width " << size.width
                << " alignment " << alignment);
      compare_all([&](Stage& s) { body(s, size); }, alignment);
    }
  }
}

/// K different experts for each token; expert 0 is never chosen when there are enough others.
inline Ids selection(const Size& n) {
  Ids ids;
  for (int64_t t = 0; t < n.tokens; ++t) {
    std::vector<int32_t> order(static_cast<size_t>(n.experts));
    std::iota(order.begin(), order.end(), 0);
    const uint64_t key = hash_key(7, "selection");
    const auto draw = [&](int32_t e) {
      return e == 0 ? 2.0 : random_uniform(key, static_cast<uint64_t>(t * n.experts + e));
    };
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return draw(a) < draw(b); });
    ids.insert(ids.end(), order.begin(), order.begin() + n.top_k);
  }
  return ids;
}

inline int64_t capacity(const Stage& s, const Size& n) {
  return n.tokens * n.top_k + n.experts * (s.alignment() - 1);
}

/// The sorted map of a case. Places of slot_of_row that the operation leaves undefined hold garbage.
struct Sorted {
  RowMap map;
  int64_t capacity = 0, used = 0;
  std::vector<bool> padding;
};
inline Sorted sorted(Stage& s, const Size& n) {
  Sorted result;
  result.capacity = capacity(s, n);
  const std::vector<Values> v = reference_values(s, [&](Stage& r) {
    const RowMap map{.row_of_slot = r.ids_out({n.tokens, n.top_k}),
                     .slot_of_row = r.ids_out({result.capacity}),
                     .offsets = r.ids_out({n.experts + 1})};
    r.run(SortSlots{.selected = r.ids_of({n.tokens, n.top_k}, selection(n)), .alignment = r.alignment(), .map = map});
    r.report("row_of_slot", map.row_of_slot);
    r.report("slot_of_row", map.slot_of_row);
    r.report("offsets", map.offsets);
  });
  const auto ids = [](const Values& values) { return Ids(values.begin(), values.end()); };
  result.map = {.row_of_slot = s.ids_of({n.tokens, n.top_k}, ids(v[0])),
                .slot_of_row = s.ids_of({result.capacity}, ids(v[1])),
                .offsets = s.ids_of({n.experts + 1}, ids(v[2]))};
  result.used = static_cast<int64_t>(v[2].back());
  for (int64_t r = 0; r < result.used; ++r) result.padding.push_back(v[1][static_cast<size_t>(r)] < 0);
  return result;
}

/// [R, width]: normal numbers where a row has a slot, NaN in padding rows and behind the rows in use.
inline Tensor rows_input(Stage& s, const std::string& name, const Sorted& sorted, int64_t width) {
  Values values = s.read(s.act(name, {sorted.capacity, width}));
  for (int64_t r = 0; r < sorted.capacity; ++r)
    if (r >= sorted.used || sorted.padding[static_cast<size_t>(r)])
      for (int64_t i = 0; i < width; ++i)
        values[static_cast<size_t>(r * width + i)] = std::numeric_limits<double>::quiet_NaN();
  return s.act_of({sorted.capacity, width}, values);
}

// ---- expert parallelism
inline Ids as_ids(const Values& values) {
  return Ids(values.begin(), values.end());
}

inline TokenSample sample_of(Stage& s, double fraction) {
  return {.fraction = fraction, .numbers = s.numbers({{StepNumber::sample_key_low, 99}}), .first_token = 1000};
}

/// Which of the first tokens belong to it, by its definition.
inline std::vector<bool> sampled_tokens(double fraction, int64_t tokens) {
  std::vector<bool> sampled;
  for (int64_t t = 0; t < tokens; ++t)
    sampled.push_back(fraction >= 1 || random_uniform(99, static_cast<uint64_t>(1000 + t)) < fraction);
  return sampled;
}

/// SortForExchange and SampledSlots of a case.
struct Home {
  RowMap map;
  Tensor counts, packed_of_slot;
};
inline Home sort_at_home(Stage& s, const Size& n, const Ids& selected, const TokenSample& sample) {
  const Home home{.map = {.row_of_slot = s.ids_out({n.tokens, n.top_k}),
                          .slot_of_row = s.ids_out({n.tokens * n.top_k}),
                          .offsets = s.ids_out({n.experts + 1})},
                  .counts = s.ids_out({n.experts, 2}),
                  .packed_of_slot = s.ids_out({n.tokens, n.top_k})};
  s.run(SortForExchange{
      .selected = s.ids_of({n.tokens, n.top_k}, selected), .sample = sample, .map = home.map, .counts = home.counts});
  s.run(
      SampledSlots{.counts = home.counts, .row_of_slot = home.map.row_of_slot, .packed_of_slot = home.packed_of_slot});
  return home;
}

/// ArrivalMap of blocks [P, E_l, 2].
struct Arrivals {
  Tensor experts, packed_of_arrival, arrival_of_packed;
};
inline Arrivals map_arrivals(Stage& s, const Shape& blocks, const Ids& counts) {
  int64_t arrivals = 0, sampled = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    arrivals += counts[i];
    if (i % 2 == 0) sampled += counts[i];
  }
  const Arrivals result{s.ids_out({arrivals, 1}), s.ids_out({arrivals}), s.ids_out({sampled})};
  s.run(ArrivalMap{.counts = s.ids_of(blocks, counts),
                   .experts = result.experts,
                   .packed_of_arrival = result.packed_of_arrival,
                   .arrival_of_packed = result.arrival_of_packed});
  return result;
}

/// from[index], of the rows that an index names.
inline Tensor gather(Stage& s, const Tensor& from, const Tensor& index, const Tensor& via = {}) {
  const Shape shape{index.elements(), from.dim(1)};
  const Tensor to = from.dtype == s.act_type() ? s.act_out(shape) : s.acc_out(shape);
  s.run(GatherRows{.from = from, .index = index, .via = via, .to = to});
  return to;
}

}  // namespace strand::test
