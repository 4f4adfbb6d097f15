#pragma once
// The vocabulary of a GGUF file: pieces, scores, special tokens, and how text is prepared. llama.cpp has a tokenizer of
// its own for each kind of vocabulary (tokenizer.ggml.model). Each kind that strand writes has a function here.
#include <string>
#include <vector>

#include "data/sentencepiece_model.h"
#include "export/gguf_file.h"
#include "export/tokenizer_files.h"

namespace strand::gguf {

/// Adds a SentencePiece model of type BPE (tokenizer.ggml.model "llama"). llama.cpp wants a piece for every row of the
/// embedding: rows beyond the pieces get unused ones, [PADn]. Returns the reasons why llama.cpp gives other ids than
/// SentencePiece for some texts; none = the ids are the same. Throws Error when the model is of another type.
std::vector<std::string> add_sentencepiece(const SentencePieceModel& model, const hf::SpecialTokens& special,
                                           int64_t rows, Metadata& out);

/// Adds the remark that the file has no vocabulary: programs can give it ids, and no text.
void add_no_vocabulary(Metadata& out);

}  // namespace strand::gguf
