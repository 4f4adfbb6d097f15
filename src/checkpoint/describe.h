#pragma once
// What is in a file, as text for a person.
#include <string>

namespace strand {

/// One line a tensor (name, type, shape, bytes), metadata, totals. Reads the header only.
std::string describe_safetensors(const std::string& path);
/// Where the run stood, the files, parameters by type, and whether the manifest verifies. Reads every byte. Describes a
/// damaged checkpoint as far as it can and says what is wrong.
std::string describe_checkpoint(const std::string& path);

}  // namespace strand
