// Expert parallelism beside the sending: the maps of rows that travel, and gathering rows by them.
#include "expert_cases.h"
#include "tests/catch.h"

using namespace strand;
using namespace strand::test;

// Expected: std::stable_sort by (expert, not in the sample). The last size is cut into ranges for several threads.
TEST_CASE("SortForExchange and SampledSlots: by expert, sampled tokens first, stable") {
  const Size large{9000, 7, 3, 1};
  std::vector<Size> all(std::begin(sizes), std::end(sizes));
  all.push_back(large);
  for (const Size& n : all) {
    for (double fraction : {1.0, 0.4, 1e-9}) {
      INFO("T " << n.tokens << " E " << n.experts << " K " << n.top_k << " fraction " << fraction);
      const Ids selected = selection(n);
      const std::vector<bool> sampled = sampled_tokens(fraction, n.tokens);
      const auto bucket = [&](int32_t slot) {
        return 2 * selected[static_cast<size_t>(slot)] + (sampled[static_cast<size_t>(slot / n.top_k)] ? 0 : 1);
      };
      Ids order(selected.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return bucket(a) < bucket(b); });
      Ids row(order.size()), packed(order.size(), -1), counts(static_cast<size_t>(2 * n.experts), 0), offsets{0};
      int32_t next_packed = 0;
      for (size_t r = 0; r < order.size(); ++r) {
        const int32_t b = bucket(order[r]);
        ++counts[static_cast<size_t>(b)];
        row[static_cast<size_t>(order[r])] = static_cast<int32_t>(r);
        if (b % 2 == 0) packed[static_cast<size_t>(order[r])] = next_packed++;
      }
      for (size_t e = 0; e < counts.size(); e += 2) offsets.push_back(offsets.back() + counts[e] + counts[e + 1]);

      compare_all([&](Stage& s) {
        const Home home = sort_at_home(s, n, selected, sample_of(s, fraction));
        CHECK(as_ids(s.read(home.map.slot_of_row)) == order);
        CHECK(as_ids(s.read(home.map.row_of_slot)) == row);
        CHECK(as_ids(s.read(home.map.offsets)) == offsets);
        CHECK(as_ids(s.read(home.counts)) == counts);
        CHECK(as_ids(s.read(home.packed_of_slot)) == packed);
      });
    }
  }
}

TEST_CASE("ArrivalMap: blocks by source and expert, sampled tokens first; some empty, all empty") {
  compare_all([](Stage& s) {
    const Arrivals some = map_arrivals(s, {2, 3, 2}, {2, 1, 0, 0, 1, 0, 0, 2, 0, 0, 3, 1});
    CHECK(as_ids(s.read(some.experts)) == Ids{0, 0, 0, 2, 0, 0, 2, 2, 2, 2});
    CHECK(as_ids(s.read(some.packed_of_arrival)) == Ids{0, 1, -1, 2, -1, -1, 3, 4, 5, -1});
    CHECK(as_ids(s.read(some.arrival_of_packed)) == Ids{0, 1, 3, 6, 7, 8});
    CHECK(map_arrivals(s, {2, 2, 2}, {0, 0, 0, 0, 0, 0, 0, 0}).experts.elements() == 0);
    const Arrivals unsampled = map_arrivals(s, {1, 2, 2}, {0, 1, 0, 1});
    CHECK(as_ids(s.read(unsampled.packed_of_arrival)) == Ids{-1, -1});
  });
}

// Three ranks of two experts. A row is known by its slot; what each rank is sent and sends back is taken from the row
// offsets and counts alone, as an all-to-all does.
TEST_CASE("the packed rows that expert ranks send home are, one after the other, those that the home expects") {
  constexpr size_t P = 3;
  const int64_t E_l = 2;
  const Size n{23, E_l * P, 3, 1};
  for (double fraction : {1.0, 0.5}) {
    compare_all([&](Stage& s) {
      std::vector<Ids> selected(P), slot_of_row(P), offsets(P), counts(P), packed_of_slot(P), home_rows(P);
      for (size_t q = 0; q < P; ++q) {
        TokenSample sample = sample_of(s, fraction);
        sample.first_token = static_cast<int64_t>(q) * n.tokens;
        selected[q] = selection(n);
        std::rotate(selected[q].begin(), selected[q].begin() + static_cast<int64_t>(q) * n.top_k, selected[q].end());
        const Home home = sort_at_home(s, n, selected[q], sample);
        slot_of_row[q] = as_ids(s.read(home.map.slot_of_row));
        offsets[q] = as_ids(s.read(home.map.offsets));
        counts[q] = as_ids(s.read(home.counts));
        packed_of_slot[q] = as_ids(s.read(home.packed_of_slot));
      }
      for (size_t p = 0; p < P; ++p) {
        std::vector<std::pair<size_t, int32_t>> arrived;  // source and slot
        Ids blocks;
        for (size_t q = 0; q < P; ++q) {
          for (int32_t r = offsets[q][2 * p]; r < offsets[q][2 * p + 2]; ++r)
            arrived.emplace_back(q, slot_of_row[q][static_cast<size_t>(r)]);
          blocks.insert(blocks.end(), counts[q].begin() + static_cast<int64_t>(4 * p),
                        counts[q].begin() + static_cast<int64_t>(4 * p + 4));
        }
        const Arrivals map = map_arrivals(s, {P, E_l, 2}, blocks);
        const Ids experts = as_ids(s.read(map.experts));
        REQUIRE(experts.size() == arrived.size());
        for (size_t a = 0; a < arrived.size(); ++a) {
          const int32_t global = selected[arrived[a].first][static_cast<size_t>(arrived[a].second)];
          CHECK(experts[a] == global - static_cast<int32_t>(2 * p));
        }
        for (int32_t a : as_ids(s.read(map.arrival_of_packed))) {
          const auto& [source, slot] = arrived[static_cast<size_t>(a)];
          home_rows[source].push_back(slot);
        }
      }
      for (size_t q = 0; q < P; ++q) {
        const auto sampled =
            std::count_if(packed_of_slot[q].begin(), packed_of_slot[q].end(), [](int32_t i) { return i >= 0; });
        REQUIRE(static_cast<int64_t>(home_rows[q].size()) == sampled);
        for (size_t i = 0; i < home_rows[q].size(); ++i)
          CHECK(packed_of_slot[q][static_cast<size_t>(home_rows[q][i])] == static_cast<int32_t>(i));
      }
    });
  }
}

TEST_CASE("GatherRows: by an index, by an index of an index, zeros for -1") {
  for (int64_t W : {1, 33, 4096}) {
    for (int64_t N : {0, 1, 6, 700}) {
      INFO("W " << W << " N " << N);
      const int64_t R = 5;
      Ids index;
      for (int64_t i = 0; i < N; ++i) index.push_back(static_cast<int32_t>(i * 3 % 7) - 1);
      const Ids via{3, -1, 0, 4, 4, 1};
      compare_all([&](Stage& s) {
        for (bool in_act : {true, false}) {
          const Tensor from = in_act ? s.act("from", {R, W}) : s.acc("from", {R, W});
          Ids direct = index;
          for (int32_t& i : direct) i = std::min(i, static_cast<int32_t>(R - 1));
          const Shape shape = N == 6 ? Shape{3, 2} : Shape{N};
          const Tensor plain = gather(s, from, s.ids_of(shape, direct));
          const Tensor composed = gather(s, from, s.ids_of(shape, index), s.ids_of({3, 2}, via));
          const Values rows = s.read(from), by_index = s.read(plain), by_both = s.read(composed);
          const auto expected = [&](int32_t row, size_t w) {
            return row < 0 ? 0.0 : rows[static_cast<size_t>(row * W) + w];
          };
          bool equal = true;
          for (size_t i = 0; i < index.size(); ++i) {
            const int32_t row = index[i] < 0 ? -1 : via[static_cast<size_t>(index[i])];
            for (size_t w = 0; w < static_cast<size_t>(W); ++w) {
              equal &= by_index[i * static_cast<size_t>(W) + w] == expected(direct[i], w);
              equal &= by_both[i * static_cast<size_t>(W) + w] == expected(row, w);
            }
          }
          CHECK(equal);
        }
        const Values zeros = s.read(gather(s, s.act_out({0, W}), s.ids_of({2}, {-1, -1})));
        CHECK(std::all_of(zeros.begin(), zeros.end(), [](double x) { return x == 0; }));
      });
    }
  }
}

TEST_CASE("arguments of the exchange that do not fit are refused by name") {
  Stage s(reference_ops(), DType::f64, DType::f64, 1);
  const Tensor rows = s.act("rows", {4, 3}), index = s.ids_of({2}, {0, 1});
  CHECK_THROWS_WITH(s.run(GatherRows{.from = rows, .index = index, .to = s.act_out({2, 4})}),
                    Catch::Contains("GatherRows") && Catch::Contains("to is"));
  CHECK_THROWS_WITH(map_arrivals(s, {1, 1, 2}, {3, -1}), Catch::Contains("more rows of sampled tokens than arrivals"));
  const Size n{2, 2, 1, 3};
  const Sorted sorted_rows = sorted(s, n);
  SwigluBackward op{.gate_up = s.act("gate_up", {2, 6}),
                    .dz = s.act("dz", {2, 3}),
                    .map = sorted_rows.map,
                    .dz_pairs = rows,
                    .weighted_z = s.act_out({2, 3}),
                    .dgate_up = s.act_out({2, 6})};
  CHECK_THROWS_WITH(s.run(op), Catch::Contains("pair_of_slot"));
  op.pair_of_slot = s.ids_of({2, 1}, {0, 1});
  op.sp_scale = 1;
  op.gram = s.acc_out({2, 1, 1});
  CHECK_THROWS_WITH(s.run(op), Catch::Contains("not both"));
}
