#pragma once
// The part of a SentencePiece .model file that another tokenizer needs: the pieces with their scores, and how text is
// normalized. The file is a protocol buffer (ModelProto of sentencepiece_model.proto). The library does not show the
// normalizer and the type of the model, so the few fields that are needed are read here.
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

  /// Throws Error that begins with `name` when the bytes are not such a protocol buffer.
  static SentencePieceModel parse(std::string_view bytes, const std::string& name);
};

/// What a normalizer does at the ends of a text.
struct TextEnds {
  bool add_dummy_prefix = false;
  bool remove_extra_whitespaces = false;
};

/// The bytes of the same model with other settings for the ends of a text. The samples with which a model tests itself
/// are left out, because they would fail with these settings. Throws Error that begins with `name` when the bytes are
/// not a protocol buffer.
std::string with_text_ends(std::string_view model, TextEnds ends, const std::string& name);

}  // namespace strand
