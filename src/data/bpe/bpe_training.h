#pragma once
// Trains a byte-level BPE tokenizer (Sennrich et al. 2016, on bytes): the pair of neighbouring tokens that occurs most
// often becomes a token, again and again. Of pairs that occur equally often, the one with the smaller ids comes first,
// as in Hugging Face's tokenizers.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/named_files.h"

namespace strand {

/// Special tokens and bytes: the ids 0 and 1 begin and end a text, and byte b is the token b + 2.
inline constexpr int64_t fixed_bpe_tokens = 2 + 256;

/// The pairs of ids that are merged, in their order. Merge i makes the id fixed_bpe_tokens + i. There are fewer than
/// `count` when no pair occurs twice any more.
std::vector<std::pair<int32_t, int32_t>> find_merges(const std::vector<std::string>& texts, int64_t count);

/// A tokenizer.json and a tokenizer_config.json with these merges, for strand and for AutoTokenizer. Texts are split
/// with Qwen 2's pattern (each digit is a piece of its own), and not normalized. Each begins with BOS.
NamedFiles bpe_files(const std::vector<std::pair<int32_t, int32_t>>& merges);

}  // namespace strand
