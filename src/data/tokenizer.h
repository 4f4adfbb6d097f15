#pragma once
// Turns text into ids and ids into text. There are two kinds: SentencePiece models (sentencepiece_tokenizer.h), and
// byte-level BPE in the tokenizer.json of Hugging Face (bpe/bpe_tokenizer.h). A tokenizer is checked when it is loaded.
// Its const methods may be called from many threads at once.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/named_files.h"
#include "data/byte_range.h"
#include "data/tokenizer_description.h"

namespace strand {

/// Whether a text is the start of its document or a continuation, which begins at a place that find_cut() returned. A
/// continuation does not get the "▁" that SentencePiece puts before the first word.
enum class TextPosition { start, continuation };

/// A token of a text, and the bytes of the text that it stands for. They are no bytes for a token that stands for none
/// (SentencePiece's "▁" before the first word). Where several tokens share a character that is made anew (by a
/// normalizer), each has all bytes from which it was made.
struct TokenSpan {
  int32_t id = 0;
  ByteRange bytes;
};

class Tokenizer {
 public:
  /// A SentencePiece model, or a tokenizer.json; a tokenizer_config.json beside the latter is read too. Throws Error
  /// naming the file, and in it the key, that is missing, empty, too large, damaged or not understood.
  static std::unique_ptr<const Tokenizer> load(const std::string& path);
  /// The same from the files' bytes. `name` is the name of the tokenizer in messages.
  static std::unique_ptr<const Tokenizer> from_files(const NamedFiles& files, const std::string& name);
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// Appends the ids of `text` (UTF-8) to `ids`, without BOS and EOS. They are the ids that the program gives which the
  /// tokenizer comes from, for the whole text, although a long text is encoded in blocks where find_cut() allows it.
  void encode(std::string_view text, std::vector<int32_t>& ids, TextPosition position = TextPosition::start) const;
  std::vector<int32_t> encode(std::string_view text) const;
  /// The same ids, and where each of them stands in the text.
  std::vector<TokenSpan> encode_with_spans(std::string_view text) const;

  /// The first place at or after byte `from` where `text` may be cut without changing an id, or npos. The part after
  /// the cut is a continuation.
  virtual size_t find_cut(std::string_view text, size_t from) const = 0;

  /// The size in bytes of the largest block of `text` that has to be encoded as one. To encode it takes some
  /// memory_for_each_byte times as much memory.
  size_t longest_block(std::string_view text) const;
  /// A longer text is encoded in blocks of at least so many bytes: the working set then stays in cache.
  static constexpr size_t block_bytes = size_t{1} << 14;
  static constexpr uint64_t memory_for_each_byte = 100;  // measured; SentencePiece describes each token at length

  /// Throws Error for an id outside [0, vocab_size()). BOS, EOS, padding and other control tokens decode to nothing.
  /// Bytes that are no UTF-8 become U+FFFD.
  virtual std::string decode(std::span<const int32_t> ids) const = 0;

  virtual int64_t vocab_size() const = 0;
  /// The token as the file spells it ("▁the" and "<0x0A>", or "Ġthe" and "Ċ").
  virtual const std::string& piece(int32_t id) const = 0;
  virtual bool is_byte(int32_t id) const = 0;     ///< a single raw byte
  virtual bool is_control(int32_t id) const = 0;  ///< BOS, EOS, padding and the like

  const SpecialTokens& special() const { return special_; }
  int32_t bos_id() const { return special_.bos; }
  int32_t eos_id() const { return special_.eos; }
  /// Whether texts begin with BOS: the model has seen no other texts.
  bool begins_with_bos() const { return special_.begin_with_bos; }

  /// What the files say, for those who write them in another form.
  virtual TokenizerDescription description() const = 0;
  /// The files of which the tokenizer is made, by their usual names, for copying them into a checkpoint.
  const NamedFiles& files() const { return files_; }
  /// "SentencePiece model"
  virtual std::string kind() const = 0;
  const std::string& name() const { return name_; }

 protected:
  Tokenizer(NamedFiles files, std::string name) : files_(std::move(files)), name_(std::move(name)) {}

  /// A block of a text, which begins at byte `offset` of it.
  struct Block {
    std::string_view text;
    size_t offset = 0;
    TextPosition position = TextPosition::start;
  };
  /// Appends the ids of a block, and their spans where `spans` is not null.
  virtual void encode_block(const Block& block, std::vector<int32_t>& ids, std::vector<TokenSpan>* spans) const = 0;
  void check_id(int32_t id) const;

  SpecialTokens special_;  ///< set by the constructor of each kind

 private:
  /// The number of bytes at the begin of `text` that are encoded at once.
  size_t first_block(std::string_view text) const;
  void encode_blocks(const Block& whole, std::vector<int32_t>& ids, std::vector<TokenSpan>* spans) const;

  NamedFiles files_;
  std::string name_;
};

/// The usual names of a tokenizer's files.
inline constexpr const char* sentencepiece_file = "tokenizer.model";
inline constexpr const char* tokenizer_json_file = "tokenizer.json";
inline constexpr const char* tokenizer_config_file = "tokenizer_config.json";

}  // namespace strand
