#pragma once
// The words for a collective that does not end: who waits, where, and for whom.
#include <string>
#include <vector>

#include "parallel/mpi_board.h"
#include "parallel/traffic.h"

namespace strand {

/// A collective in progress, as one of its ranks sees it.
struct Waiting {
  Traffic kind = Traffic::control;
  const char* group = "";                   ///< "experts group"
  const std::vector<int>* ranks = nullptr;  ///< of the group, by their rank in the world
  Place place;                              ///< of this rank, when it began
  int channel = 0;                          ///< of Seat
  int64_t sequence = 0;                     ///< the channel's how-manieth, from 1
};

/// "in step 12, layer 3 (dispatch, experts group)"
std::string where(const Waiting& waiting);

/// "rank 2 has not come (last seen in step 12, layer 3, combine)", "rank 2 came but stands still", for each such rank
/// but `self`; of those on other hosts, that they cannot be seen.
std::string who_is_missing(const Waiting& waiting, int self, const MpiBoard& board);

}  // namespace strand
