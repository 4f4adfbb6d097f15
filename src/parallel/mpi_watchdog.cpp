#include "parallel/mpi_watchdog.h"

#include <fmt/core.h>

namespace strand {

namespace {
constexpr double still_seconds = 1;  ///< a communication thread with work beats thousands of times a second
constexpr size_t most_named = 4;

/// "" for a rank that is where it should be.
std::string absence(const Waiting& w, int rank, const Seat& seat) {
  const auto c = static_cast<size_t>(w.channel);
  if (seat.entered[c].load(std::memory_order_acquire) < w.sequence)
    return fmt::format("rank {} has not come (last seen in {})", rank, seat.last_seen());
  if (seat.left[c].load() >= w.sequence || seat.seconds_since_beat() < still_seconds) return "";
  return fmt::format("rank {} came but has stood still for {:.0f} s", rank, seat.seconds_since_beat());
}
}  // namespace

std::string where(const Waiting& w) {
  const std::string kind = to_string(w.kind), doing = w.place.doing;
  return fmt::format("in {} ({}, {})", describe(w.place.step, w.place.layer, doing == kind ? "" : doing), kind,
                     w.group);
}

std::string who_is_missing(const Waiting& w, int self, const MpiBoard& board) {
  std::string text;
  size_t named = 0, unnamed = 0, unseen = 0;
  for (const int rank : *w.ranks) {
    const Seat* seat = board.of(rank);
    unseen += seat == nullptr;
    if (rank == self || seat == nullptr) continue;
    const std::string absent = absence(w, rank, *seat);
    if (absent.empty()) continue;
    if (named == most_named) {
      ++unnamed;
      continue;
    }
    text += (named++ == 0 ? "" : ", ") + absent;
  }
  if (unnamed > 0) text += fmt::format(", nor have {} more", unnamed);
  if (unseen > 0) text += std::string(text.empty() ? "" : "; ") + "ranks on other hosts cannot be seen";
  return text.empty() ? "all ranks have come, so what they send does not arrive" : text;
}

}  // namespace strand
