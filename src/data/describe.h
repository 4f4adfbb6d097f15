#pragma once
// Descriptions of token files and tokenizers, as text for people (`strand inspect`).
#include <string>

#include "data/token_file.h"
#include "data/tokenizer.h"

namespace strand {

/// Format, type, tokens, documents and their lengths, the tokenizer that made it where a record names one, smallest and
/// largest id. With a tokenizer it also says whether it is another one than made the file, or the ids do not fit its
/// vocabulary, and shows the first tokens as text. In a file of more than 2^24 tokens it looks at 2^24
/// of them, in blocks that are spread evenly from the first token to the last. Throws Error for a bad file.
std::string describe_token_file(const std::string& path, TokenFormat format = TokenFormat::automatic,
                                const Tokenizer* tokenizer = nullptr);

/// Size, special ids, kinds of pieces, and the pieces of a short text. Throws Error for a bad file.
std::string describe_tokenizer(const std::string& path);

/// The text on one line, with line breaks and other control characters replaced: what a terminal may be shown of a
/// file.
std::string one_line(const std::string& text);

}  // namespace strand
