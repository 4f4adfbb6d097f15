#pragma once
// A SentencePiece model, which turns text into ids and ids into text. It is checked when it is loaded. Its const
// methods may be called from many threads at once.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

/// Whether a text is the start of its document or a continuation, which begins at a place that find_cut() returned. A
/// continuation does not get the "▁" that SentencePiece puts before the first word.
enum class TextPosition { start, continuation };

class Tokenizer {
 public:
  /// Throws Error naming the file when it is missing, empty, too large or no SentencePiece model.
  static Tokenizer load(const std::string& path);
  /// `name` is the name of the model in messages.
  static Tokenizer from_bytes(std::string_view bytes, const std::string& name);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Appends the ids of `text` (UTF-8) to `ids`, without BOS and EOS. They are the ids that SentencePiece gives for the
  /// whole text, although a long text is encoded in blocks where find_cut() allows it.
  void encode(std::string_view text, std::vector<int32_t>& ids, TextPosition position = TextPosition::start) const;
  std::vector<int32_t> encode(std::string_view text) const;

  /// The first place at or after byte `from` where `text` may be cut without changing an id (safe_cuts.h), or npos. The
  /// part after the cut is a continuation.
  size_t find_cut(std::string_view text, size_t from) const;

  /// The size in bytes of the largest block of `text` that has to be encoded as one. To encode it takes some
  /// memory_for_each_byte times as much memory.
  size_t longest_block(std::string_view text) const;
  /// A longer text is encoded in blocks of at least so many bytes: SentencePiece's working set then stays in cache.
  static constexpr size_t block_bytes = size_t{1} << 14;
  static constexpr uint64_t memory_for_each_byte = 100;  // measured; SentencePiece describes each token at length

  /// Throws Error for an id outside [0, vocab_size()). BOS, EOS and padding decode to nothing.
  std::string decode(std::span<const int32_t> ids) const;

  int64_t vocab_size() const;
  int32_t unk_id() const;
  int32_t bos_id() const;  ///< -1 when the model has none; so are the next two
  int32_t eos_id() const;
  int32_t pad_id() const;
  /// The piece as the model spells it ("▁the", "<0x0A>").
  const std::string& piece(int32_t id) const;
  bool is_byte(int32_t id) const;     ///< a raw byte (byte fallback)
  bool is_control(int32_t id) const;  ///< BOS, EOS, padding and the like

  /// The .model file's own bytes, for copying it into an export.
  const std::string& bytes() const;
  const std::string& name() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace strand
