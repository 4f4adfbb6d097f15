#pragma once
// Turns text files into token files: documents -> BOS + ids + EOS -> Megatron .bin and .idx, on several threads and in
// bounded memory. Beside each pair stands a record that names the tokenizer (tokenizer_record.h).
//
//   reader (1 thread) --batches of documents--> workers (threads) --ids--> writer (the caller's thread, in text order)
//
// Long documents are passed on in parts, which are cut only where that provably changes no id (safe_cuts.h). The output
// depends on the text, the tokenizer and the options, and not on the number of threads. When anything fails, nothing is
// left under a final name.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace strand {

/// How much text is under way at a time, in bytes. These bound memory and change no id. Tests make them small.
struct TokenizeLimits {
  /// Documents are passed to a worker together until they have so much. Large enough to hide the cost of passing them
  /// on, and small enough to share work among threads.
  size_t batch = size_t{1} << 18;
  /// Blocks that all threads together encode at once, which bounds SentencePiece's working memory. A larger block is
  /// encoded alone.
  size_t encoded_at_once = size_t{16} << 20;
  size_t in_flight = size_t{64} << 20;  ///< read and not yet written, whatever the number of threads
};

struct TokenizeOptions {
  std::vector<std::string> inputs;  ///< text files and directories (text_reader.h)
  std::string output;               ///< prefix of the .bin/.idx pair
  std::string val_output;           ///< prefix of a second pair that gets val_fraction of the documents; "" = none
  double val_fraction = 0.0;  ///< in (0, 1) with val_output; where a document goes depends on its text and the seed
  uint64_t seed = 1;
  bool add_bos = true;
  bool add_eos = true;
  int threads = 1;
  uint64_t available_memory = UINT64_MAX;  ///< bytes; a document that needs more is refused
  TextOptions text;                        ///< find_cut is set by tokenize()
  TokenizeLimits limits;
};

struct TokenizeSide {
  int64_t documents = 0;
  int64_t tokens = 0;  ///< BOS and EOS included
  uint64_t bytes = 0;  ///< of text
};

struct TokenizeSummary {
  TokenizeSide train;
  TokenizeSide val;
  int64_t empty_documents = 0;  ///< skipped
  TextCounts text;              ///< what reading left out or replaced; only the final result has all of it
  int64_t left_out = 0;         ///< files and other entries that were not read; a warning named each of them
  double seconds = 0;
};

/// `progress` (may be empty) is called on the caller's thread after every batch.
TokenizeSummary tokenize(const TokenizeOptions& options, const Tokenizer& tokenizer,
                         const std::function<void(const TokenizeSummary&)>& progress = {});

/// "1,234 documents, 5,678 tokens, ... tokens per byte": the summary in one or two lines for people.
std::string to_string(const TokenizeSummary& summary);

}  // namespace strand
