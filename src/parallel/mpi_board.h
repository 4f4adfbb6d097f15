#pragma once
// A board in memory that all ranks of a host share, on which each writes how far it is. Whoever waits too long reads
// there for whom. Nothing is ever waited for on it: a rank that is stopped or dead is just one that writes no more.
#include <mpi.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/progress.h"

namespace strand {

/// Where a rank was when it began something.
struct Place {
  int64_t step = -1, layer = -1;
  const char* doing = "set-up";

  static Place of(const Progress& progress);
};

/// "step 12, layer 3, combine", steps counted from 1 as in the log.
std::string describe(int64_t step, int64_t layer, const std::string& doing);

/// The part of the board that belongs to one rank. Only this rank writes it, except for `reports`.
struct alignas(64) Seat {
  static constexpr int channels = 6;  ///< groups of ranks × lanes
  using Text = std::array<std::atomic<uint64_t>, 4>;

  std::array<std::atomic<int64_t>, channels> entered, left;  ///< collectives of the channel begun, and completed
  std::atomic<int64_t> step, layer;                          ///< where the last one was begun
  Text doing;
  std::atomic<int64_t> beat_ns;  ///< steady clock, while the rank's communication thread has work
  std::atomic<int64_t> reports;  ///< of this host, on its first seat: above 0 = somebody says what is wrong

  void enter(int channel, const Place& place);
  void beat();
  double seconds_since_beat() const;
  /// "step 12, layer 3, combine"
  std::string last_seen() const;
};

class MpiBoard {
 public:
  /// A collective of `host`, the ranks that share memory.
  explicit MpiBoard(MPI_Comm host);
  /// A collective of the same ranks.
  ~MpiBoard();
  MpiBoard(const MpiBoard&) = delete;
  MpiBoard& operator=(const MpiBoard&) = delete;

  Seat& mine() const { return *mine_; }
  /// nullptr for a rank on another host.
  const Seat* of(int world_rank) const;
  /// True for the first rank of this host that asks, so that one line says what is wrong and not one of each rank.
  bool first_to_report() const;
  bool reported() const;

 private:
  MPI_Win window_ = MPI_WIN_NULL;
  Seat* mine_ = nullptr;
  std::vector<Seat*> seats_;      ///< by rank of `host`
  std::vector<int> world_ranks_;  ///< by rank of `host`: the rank in the run
};

}  // namespace strand
