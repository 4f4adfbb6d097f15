#pragma once
// The vocabulary of a GGUF file: pieces, scores, special tokens, and how text is prepared. llama.cpp has a tokenizer of
// its own for each kind of vocabulary (tokenizer.ggml.model). Each kind that strand writes has a function here.
#include <string>
#include <vector>

#include "data/tokenizer_description.h"
#include "export/gguf_file.h"

namespace strand::gguf {

/// Why llama.cpp has no tokenizer for this one, as the end of a sentence that begins with its name; "" = it has one.
std::string reason_against_vocabulary(const SentencePieceModel& model);
/// llama.cpp has the patterns of pre-tokenizers in its program, and knows them by name (tokenizer.ggml.pre).
std::string reason_against_vocabulary(const TokenizerJson& tokenizer);

/// Adds a tokenizer without such a reason. llama.cpp wants a token for every row of the embedding: rows beyond the
/// tokens get unused ones, [PADn]. Returns the reasons why llama.cpp gives other ids for some texts; none = the ids are
/// the same. Throws Error when there are fewer rows than tokens.
std::vector<std::string> add_vocabulary(const SentencePieceModel& model, const SpecialTokens& special, int64_t rows,
                                        Metadata& out);
std::vector<std::string> add_vocabulary(const TokenizerJson& tokenizer, const SpecialTokens& special, int64_t rows,
                                        Metadata& out);

/// Adds the ids of special tokens, and where they are put. The functions above do that.
void add_special_tokens(const SpecialTokens& special, Metadata& out);
/// Appends unused tokens, whose texts are not taken, until there are so many.
void pad_tokens(int64_t rows, std::vector<std::string>& texts);

/// Adds the remark that the file has no vocabulary: programs can give it ids, and no text.
void add_no_vocabulary(Metadata& out);

}  // namespace strand::gguf
