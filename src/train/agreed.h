#pragma once
// An error on one rank becomes an error on all of them, so that no rank waits for one that has left.
#include <fmt/core.h>

#include <exception>
#include <string>

#include "core/error.h"
#include "parallel/control_channel.h"

namespace strand {

/// Runs `body`, and then tells all ranks how it went: where it threw on any, every rank throws Error with the message
/// of the lowest of them. All ranks of the group call it.
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
