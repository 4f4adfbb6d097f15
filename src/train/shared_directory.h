#pragma once
// The run directory of several processes has to be one directory for all of them: every rank writes its part of a
// checkpoint there.
#include <string>

#include "parallel/control_channel.h"

namespace strand {

/// Every rank looks for a file of random name that rank 0 makes in `directory`, for a few seconds at most, as network
/// file systems show new files late. Afterwards nothing of it is left, nor any folder that was made for it. Throws
/// Error on every rank when one of them does not see it (naming the ranks and their hosts), or rank 0 cannot write.
void require_shared_directory(ControlChannel& all, const std::string& directory);

}  // namespace strand
