#pragma once
// SHA-256 (FIPS 180-4), by which token files name their tokenizer and lm-evaluation-harness names prompts.
#include <string>
#include <string_view>

namespace strand {

/// 64 hexadecimal digits.
std::string sha256(std::string_view bytes);

}  // namespace strand
