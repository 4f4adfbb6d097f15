#pragma once
// Locks of the places to which commands write. They are held until the command ends.
#include <string>

#include "core/place_lock.h"
#include "parallel/control_channel.h"

namespace strand::cli {

/// The lock of a directory for all ranks of a run: the first rank takes it, and the others join. All ranks call it.
/// When the lock is not given, all throw the same Error.
PlaceLock lock_directory(ControlChannel& all, const std::string& directory, const PlaceLock::Request& request);

/// The lock of an output of `strand COMMAND`, for one process.
PlaceLock lock_output(const std::string& path, const std::string& command);

}  // namespace strand::cli
