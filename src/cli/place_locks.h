#pragma once
// Locks of what commands write, held until the command ends.
#include <string>

#include "core/place_lock.h"
#include "parallel/communicator.h"

namespace strand::cli {

/// A directory's lock for all ranks of a run: the first one has it, the others join. All ranks call it; where it is not
/// given, all throw the same Error.
PlaceLock lock_directory(Communicator& all, const std::string& directory, const PlaceLock::Request& request);

/// The lock of an output of `strand COMMAND`, for one process.
PlaceLock lock_output(const std::string& path, const std::string& command);

}  // namespace strand::cli
