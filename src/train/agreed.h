#pragma once
// Turns an error of one rank into an error of all ranks, so that no rank waits for one that has left.
#include <fmt/core.h>

#include <exception>
#include <string>

#include "core/error.h"
#include "parallel/control_channel.h"

namespace strand {

/// Runs `body` and then tells all ranks whether it threw. When it threw on any rank, every rank throws Error with the
/// message of the lowest such rank. All ranks of the group call this.
template <typename Body>
void agreed(ControlChannel& group, const Body& body) {
  if (group.size() == 1) return body();
  std::string mine;
  try {
    body();
  } catch (const std::exception& error) {
    mine = group.rank() == 0 ? error.what() : fmt::format("rank {}: {}", group.rank(), error.what());
  }
  for (const std::string& theirs : group.all_gather(mine)) require(theirs.empty(), "{}", theirs);
}

}  // namespace strand
