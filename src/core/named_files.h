#pragma once
#include <map>
#include <string>

namespace strand {

/// The bytes of files by their names, in memory.
using NamedFiles = std::map<std::string, std::string>;

}  // namespace strand
