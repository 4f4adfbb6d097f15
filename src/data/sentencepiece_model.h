#pragma once
// What a SentencePiece .model file says, as far as another tokenizer needs it: the pieces with their scores, and how
// text is prepared. The file is a protocol buffer (ModelProto of sentencepiece_model.proto); the library itself shows
// neither the normalizer nor the type of the model, so the few fields wanted are read here.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strand {

enum class PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;
};

struct SentencePieceModel {
  enum class Algorithm { unigram = 1, bpe = 2, word = 3, character = 4 };

  std::vector<Piece> pieces;  ///< by id
  Algorithm algorithm = Algorithm::unigram;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  // The normalizer, in the order in which it works:
  std::string charsmap;  ///< compiled character rules; empty = identity
  bool remove_extra_whitespaces = true;
  bool add_dummy_prefix = true;
  bool escape_whitespaces = true;

  /// Throws Error beginning with `name` on bytes that are no such protocol buffer.
  static SentencePieceModel parse(std::string_view bytes, const std::string& name);
};

/// What a normalizer does at the ends of a text.
struct TextEnds {
  bool add_dummy_prefix = false;
  bool remove_extra_whitespaces = false;
};

/// The bytes of the same model with other settings for the ends of a text, and without the model's samples for testing
/// itself, which those settings would fail. Throws Error beginning with `name` on bytes that are no protocol buffer.
std::string with_text_ends(std::string_view model, TextEnds ends, const std::string& name);

}  // namespace strand
