#pragma once
// What is this file? Text for people, for `strand inspect`.
#include <string>

#include "data/token_file.h"
#include "data/tokenizer.h"

namespace strand {

/// Format, type, tokens, documents and their lengths, smallest and largest id; with a tokenizer also whether the ids
/// fit its vocabulary, and the first tokens as text. Of a file of more than 2^24 tokens as many are looked at, in
/// blocks spread evenly from the first token to the last. Throws Error for a bad file.
std::string describe_token_file(const std::string& path, TokenFormat format = TokenFormat::automatic,
                                const Tokenizer* tokenizer = nullptr);

/// Size, special ids, kinds of pieces and how a short text is cut. Throws Error for a bad file.
std::string describe_tokenizer(const std::string& path);

}  // namespace strand
