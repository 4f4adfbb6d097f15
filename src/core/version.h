#pragma once

#include <string>

namespace strand {

/// The version of strand, three numbers with points. CMakeLists.txt at the root of the repository is the one place
/// where it is written.
const char* program_version();

/// The commit that the program was built from: 12 digits, then "-dirty" if files of the repository had been changed
/// since. Empty where it was not built in a clone.
const std::string& program_commit();

/// `main` says the commit, before other threads begin. It is compiled into the program and not into this library, so
/// that after a commit one file is compiled and one program is linked.
void set_program_commit(std::string commit);

}  // namespace strand
