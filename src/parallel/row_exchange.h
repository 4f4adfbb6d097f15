#pragma once
// Who sends how many rows to whom, for one MoE layer of one micro-batch: made once, from the one read of counts that
// the exchange needs, and used by everything that travels afterwards, forward and backward.
//
// The tokens' own rank is their *home*; its rows are sorted by expert, which is also by the rank that holds the expert,
// and within an expert rows of sampled tokens come first (kernels/ops/exchange.h). Rows travel in *chunks* of each
// rank's experts, so that one chunk can be computed while the next is on its way. Within a chunk rows arrive by source
// rank, then by expert. *Packed* rows are those of sampled tokens alone, in the same order.
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/communicator.h"

namespace strand {

/// The rows of one chunk, by rank of the expert group.
struct RowChunk {
  int64_t first_expert = 0, experts = 0;              ///< among this rank's own
  std::vector<int64_t> home_first, home_count;        ///< home rows by the rank that they go to
  std::vector<int64_t> packed_first, packed_count;    ///< the same of the packed rows at home
  std::vector<int64_t> arrival_first, arrival_count;  ///< arriving rows by the rank that they come from
  std::vector<int64_t> packed_arrival_first, packed_arrival_count;
  int64_t arrivals = 0, packed_arrivals = 0;

  RankRows home(const Tensor& rows) const { return {rows, home_first, home_count}; }
  RankRows packed_home(const Tensor& rows) const { return {rows, packed_first, packed_count}; }
  RankRows arriving(const Tensor& rows) const { return {rows, arrival_first, arrival_count}; }
  RankRows packed_arriving(const Tensor& rows) const { return {rows, packed_arrival_first, packed_arrival_count}; }
};

struct RowExchange {
  std::vector<RowChunk> chunks;  ///< those without an expert are left out
  int64_t home_rows = 0, packed_home_rows = 0;
  int64_t arrivals = 0;

  /// `sent` [E, 2]: home rows by expert, of sampled tokens and others; `arriving` [P, E/P, 2]: the same by source rank
  /// and local expert. At most `chunks` chunks, of equal numbers of experts to one.
  RowExchange(std::span<const int32_t> sent, std::span<const int32_t> arriving, int ranks, int64_t chunks);
  RowExchange() = default;
};

/// Counts as even as they can be, where there is no data to count: `rows` over the experts, of which a share `fraction`
/// is of sampled tokens. [experts, 2]
std::vector<int32_t> even_counts(int64_t rows, int64_t experts, double fraction);

}  // namespace strand
