#pragma once
// Trains a tokenizer on text files, of one of two kinds. Both keep all white space, take digits one by one and do not
// normalize. The same text and options give the same files.
//   sentencepiece   a SentencePiece model of LLaMA-2's kind: BPE with byte fallback, the ids 0, 1 and 2 for unk, bos
//   and
//                   eos, and no padding piece
//   bpe_bytes       byte-level BPE in a tokenizer.json, which AutoTokenizer reads too (bpe/bpe_training.h)
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/text_reader.h"

namespace strand {

enum class TokenizerType { sentencepiece, bpe_bytes };

struct TokenizerTraining {
  TokenizerType type = TokenizerType::sentencepiece;
  std::vector<std::string> inputs;  ///< text files and directories (text_reader.h)
  /// The file, which appears when it is complete. For bpe_bytes its name is tokenizer.json, and a tokenizer_config.json
  /// appears beside it.
  std::string output;
  int64_t vocab_size = 32000;  ///< all pieces, the special ones and the 256 bytes included
  /// Lines are drawn uniformly from the whole text, about so many bytes of them. This bounds memory and time.
  uint64_t sample_bytes = uint64_t{16} << 20;
  uint64_t seed = 1;  ///< of the draw
  TextOptions text;   ///< find_cut is set by train_tokenizer()
};

struct TokenizerTrainingSummary {
  int64_t documents = 0;
  uint64_t bytes = 0;          ///< of text read
  uint64_t sampled_bytes = 0;  ///< of text trained on
  bool every_line = true;      ///< whether the sample is all of the text
  int64_t vocab_size = 0;
  TextCounts text;       ///< what reading left out or replaced
  int64_t left_out = 0;  ///< files and other entries that were not read, each named in a warning
  double seconds = 0;
};

/// `progress` (may be empty) is called from time to time with the number of bytes read so far.
/// Throws Error for bad input, an empty corpus, and a text too small for the vocabulary asked for.
TokenizerTrainingSummary train_tokenizer(const TokenizerTraining& options,
                                         const std::function<void(uint64_t bytes)>& progress = {});

}  // namespace strand
