#include "cli/place_locks.h"

#include <optional>
#include <utility>

#include "train/agreed.h"

namespace strand::cli {

PlaceLock lock_directory(ControlChannel& all, const std::string& directory, const PlaceLock::Request& request) {
  std::optional<PlaceLock> lock;
  agreed(all, [&] {
    if (all.rank() == 0) lock.emplace(PlaceLock::of_directory(directory, request));
  });
  if (all.rank() != 0) lock.emplace(PlaceLock::join_directory(directory));
  return std::move(*lock);
}

PlaceLock lock_output(const std::string& path, const std::string& command) {
  return PlaceLock::of_output(path, {.command = "strand " + command, .otherwise = "choose another place"});
}

}  // namespace strand::cli
