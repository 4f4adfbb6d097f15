#pragma once
// Writes a Megatron pair <prefix>.bin and .idx as a stream: its memory does not grow with the number of tokens or
// documents. Nothing stands under the final names before publish(). The .idx, by which readers find the pair, gets its
// name last. A <prefix>.tokenized beside them says which tokenizer made the ids (tokenizer_record.h).
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/output_file.h"
#include "data/token_file.h"
#include "data/tokenizer_record.h"

namespace strand {

class TokenWriter {
 public:
  /// How many lengths of documents are read back at a time when the index is completed.
  static constexpr int64_t lengths_at_once = 1 << 16;

  /// The most tokens of one sequence: the index holds lengths as int32. A longer document becomes several sequences.
  static constexpr int64_t longest_sequence = int64_t{1} << 30;

  /// `name` is the prefix, or one of its two files. Throws Error when it names a directory.
  /// Ids are stored as uint16 when vocab_size < 65500, else as int32 (Megatron's rule).
  /// This pair says nothing of a tokenizer.
  TokenWriter(const std::string& name, int64_t vocab_size, int64_t max_sequence = longest_sequence);
  /// The same for ids that `tokenizer` makes, with the record that names it.
  TokenWriter(const std::string& name, const Tokenizer& tokenizer);

  /// Adds ids to the document in progress. Throws Error for an id outside the vocabulary.
  void append(std::span<const int32_t> ids);
  void end_document();

  /// Completes the files and makes sure that they are on the disk. Throws Error when no document was ended.
  void seal();
  /// Gives the files their final names. An older pair of these names is replaced, and its record is removed.
  void publish();

  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return documents_; }
  const std::string& prefix() const { return prefix_; }

 private:
  void end_sequence();
  void write_record();

  std::string prefix_;
  int64_t vocab_size_;
  int64_t max_sequence_;
  TokenType type_;
  OutputFile data_;
  OutputFile index_;
  std::optional<TokenizerIdentity> made_with_;
  std::optional<OutputFile> record_;  // there is one where made_with_ is there
  std::vector<uint16_t> narrow_;      // staging for uint16
  int64_t length_ = 0;                // of the sequence in progress
  int64_t tokens_ = 0;
  int64_t sequences_ = 0;
  int64_t documents_ = 0;
  std::vector<int64_t> continued_;  // sequences after which the document goes on
};

}  // namespace strand
