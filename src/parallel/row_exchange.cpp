#include "parallel/row_exchange.h"

#include <algorithm>

#include "core/error.h"

namespace strand {

namespace {
/// Numbers of rows by expert, [experts, 2], with the first row of each expert in both orders.
class Blocks {
 public:
  explicit Blocks(std::span<const int32_t> counts) {
    rows_.push_back(0);
    packed_.push_back(0);
    for (size_t i = 0; i < counts.size(); i += 2) {
      rows_.push_back(rows_.back() + counts[i] + counts[i + 1]);
      packed_.push_back(packed_.back() + counts[i]);
    }
  }
  int64_t first(int64_t expert) const { return rows_[size_t(expert)]; }
  int64_t first_packed(int64_t expert) const { return packed_[size_t(expert)]; }
  int64_t rows() const { return rows_.back(); }
  int64_t packed() const { return packed_.back(); }

 private:
  std::vector<int64_t> rows_, packed_;
};

/// Appends a block of `count` after the ones before it.
int64_t append(std::vector<int64_t>& first, std::vector<int64_t>& counts, int64_t begin, int64_t count) {
  first.push_back(begin);
  counts.push_back(count);
  return begin + count;
}
}  // namespace

RowExchange::RowExchange(std::span<const int32_t> sent, std::span<const int32_t> arriving, int ranks,
                         int64_t chunk_limit) {
  require(ranks > 0 && sent.size() == arriving.size() && sent.size() % static_cast<size_t>(2 * ranks) == 0,
          "an exchange of {} and {} counts over {} ranks", sent.size(), arriving.size(), ranks);
  const Blocks home(sent), there(arriving);
  const auto local = static_cast<int64_t>(sent.size()) / (2 * ranks);
  home_rows = home.rows();
  packed_home_rows = home.packed();
  arrivals = there.rows();
  const int64_t parts = std::min(chunk_limit, local);
  for (int64_t part = 0; part < parts; ++part) {
    RowChunk c;
    c.first_expert = local * part / parts;
    c.experts = local * (part + 1) / parts - c.first_expert;
    for (int64_t p = 0; p < ranks; ++p) {
      const int64_t begin = p * local + c.first_expert, end = begin + c.experts;
      append(c.home_first, c.home_count, home.first(begin), home.first(end) - home.first(begin));
      append(c.packed_first, c.packed_count, home.first_packed(begin),
             home.first_packed(end) - home.first_packed(begin));
      c.arrivals = append(c.arrival_first, c.arrival_count, c.arrivals, there.first(end) - there.first(begin));
      c.packed_arrivals = append(c.packed_arrival_first, c.packed_arrival_count, c.packed_arrivals,
                                 there.first_packed(end) - there.first_packed(begin));
    }
    chunks.push_back(std::move(c));
  }
}

std::vector<int32_t> even_counts(int64_t rows, int64_t experts, double fraction) {
  std::vector<int32_t> counts;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t here = rows * (e + 1) / experts - rows * e / experts;
    const auto sampled = static_cast<int64_t>(static_cast<double>(here) * fraction + 0.5);
    counts.push_back(static_cast<int32_t>(sampled));
    counts.push_back(static_cast<int32_t>(here - sampled));
  }
  return counts;
}

}  // namespace strand
