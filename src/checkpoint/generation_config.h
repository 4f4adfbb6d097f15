#pragma once
// generation_config.json, the file in which Hugging Face models say how they generate. Of its keys strand uses the ids
// that end a text: a chat model often has several.
#include <cstdint>
#include <string>
#include <vector>

#include "core/named_files.h"

namespace strand {

inline constexpr const char* generation_config_file = "generation_config.json";

/// The key eos_token_id of generation_config.json or config.json: a number, a list of numbers, or none. Throws Error
/// naming the file and the id that is not in [0, vocab_size).
std::vector<int32_t> eos_ids_in(const std::string& json, const std::string& where, int64_t vocab_size);

/// The same for the file among those that a checkpoint carries; none where it is not there.
std::vector<int32_t> carried_eos_ids(const NamedFiles& carried, const std::string& checkpoint, int64_t vocab_size);

}  // namespace strand
