#pragma once

namespace strand {

/// The version of strand, three numbers with points. CMakeLists.txt at the root of the repository is the one place
/// where it is written.
const char* program_version();

}  // namespace strand
