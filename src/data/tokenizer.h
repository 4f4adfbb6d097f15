#pragma once
// Text to ids and back: a SentencePiece model, checked when it is loaded. const methods may be called from many
// threads.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

/// Where in its document a text stands. A continuation starts with the newline before which the document was cut (see
/// text_reader.h) and does not get the space that SentencePiece puts before the first word.
enum class TextPosition { start, continuation };

class Tokenizer {
 public:
  /// Throws Error naming the file when it is missing, empty, too large or no SentencePiece model.
  static Tokenizer load(const std::string& path);
  /// `name` stands for the file in messages.
  static Tokenizer from_bytes(std::string_view bytes, const std::string& name);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Appends the ids of `text` (UTF-8) to `ids`; no BOS, no EOS. Long texts are encoded line group by line group where
  /// the model provably gives the same ids that way (identity normalization, no piece with a newline).
  void encode(std::string_view text, std::vector<int32_t>& ids, TextPosition position = TextPosition::start) const;
  std::vector<int32_t> encode(std::string_view text) const;

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
