#pragma once
// How many bytes of text tokens stand for, by which a loss per token becomes bits per byte: the number that models with
// different tokenizers can be compared by.
#include <cstdint>
#include <span>
#include <vector>

#include "data/tokenizer.h"

namespace strand {

/// The bytes of UTF-8 that each id of a tokenizer decodes to within a text: 0 for control tokens and for the unknown
/// one. Their sum over the ids of a text is its length, as the tokenizer makes it again (a space that SentencePiece
/// puts before the first word counts).
std::vector<int32_t> text_bytes_by_id(const Tokenizer& tokenizer);

/// The bytes of all targets that are tokens. Ids that the table does not have, and targets below 0, stand for none.
int64_t text_bytes(std::span<const int32_t> targets, const std::vector<int32_t>& by_id);

/// Bits a byte, from a mean cross-entropy in nats over `tokens` tokens, which stand for `bytes` > 0 bytes.
double bits_per_byte(double cross_entropy, int64_t tokens, int64_t bytes);

}  // namespace strand
