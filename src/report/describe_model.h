#pragma once
// Descriptions of models in the formats of other programs, as text for people (`strand inspect`).
#include <string>

namespace strand {

/// Class, sizes, numbers of parameters, precision, tokenizer, chat template and tensors of a Hugging Face model
/// directory, and the command that imports it, or the reason why import refuses it: import's own checks say so, and
/// they read the weights. A directory that import refuses is described as far as its files can be read.
std::string describe_model_directory(const std::string& directory);

/// Architecture, sizes, number of parameters, precision, tokenizer, chat template and tensors of a GGUF file. Reads its
/// header. Throws Error for a bad file.
std::string describe_gguf(const std::string& path);

}  // namespace strand
